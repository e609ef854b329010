package statefile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// Record is what files of state are made of, those of a graceful stop and those of the log
// alike. Each has checksums of its own, so that a damaged one takes no other with it:
//
//	u32 "Gdr1"  u32 bytes of data  u64 number  u32 version  u8 op  u8 kind  u16 bytes of id
//	u32 CRC-32C of the data  u32 CRC-32C of all before and of the id  id  data
//
// Integers are little-endian. Numbers of a file's records follow one another.
type Record struct {
	Number  uint64
	Version uint32
	Op      byte
	Kind    byte
	ID      string
	Data    []byte // of one that was read: a part of what it was read from
}

const (
	recordMagic = "Gdr1"
	recordHead  = 32
	maxRecordID = 1<<16 - 1
)

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendRecord adds a record to bytes of a file. Its id has at most 65535 bytes.
func AppendRecord(out []byte, r *Record) []byte {
	le := binary.LittleEndian
	id := r.ID[:min(len(r.ID), maxRecordID)]
	at := len(out)
	out = append(out, recordMagic...)
	out = le.AppendUint32(out, uint32(len(r.Data)))
	out = le.AppendUint64(out, r.Number)
	out = le.AppendUint32(out, r.Version)
	out = append(out, r.Op, r.Kind)
	out = le.AppendUint16(out, uint16(len(id)))
	out = le.AppendUint32(out, crc32.Checksum(r.Data, castagnoli))
	out = le.AppendUint32(out, 0)
	out = append(out, id...)
	le.PutUint32(out[at+recordHead-4:], headSum(out[at:]))
	return append(out, r.Data...)
}

// headSum is that of the head and id that bytes begin with, and end with.
func headSum(head []byte) uint32 {
	sum := crc32.Checksum(head[:recordHead-4], castagnoli)
	return crc32.Update(sum, castagnoli, head[recordHead:])
}

// Scanner reads the records of a file, past whatever of it is damaged.
type Scanner struct {
	data []byte
	at   int

	// Skipped counts bytes in which there was no record that could be read.
	Skipped int64
}

// NewScanner reads these bytes.
func NewScanner(data []byte) *Scanner { return &Scanner{data: data} }

// Offset is how far it has read.
func (s *Scanner) Offset() int { return s.at }

// Next gives the next record. whole is false for one whose data is damaged, or cut: all but
// the data is right. ok is false behind the last one.
func (s *Scanner) Next() (r Record, whole, ok bool) {
	for s.at < len(s.data) {
		rest := s.data[s.at:]
		head, good := readHead(rest, &r)
		if !good {
			next := bytes.Index(rest[1:], []byte(recordMagic))
			if next < 0 {
				next = len(rest) - 1
			}
			s.at += next + 1
			s.Skipped += int64(next + 1)
			continue
		}
		n := int64(binary.LittleEndian.Uint32(rest[4:]))
		sum := binary.LittleEndian.Uint32(rest[24:])
		if n > int64(len(rest)-head) {
			// What is behind its head may be cut, or be other records: the gap is looked through.
			s.at += head
			s.Skipped += int64(head)
			return r, false, true
		}
		r.Data = rest[head : head+int(n) : head+int(n)]
		s.at += head + int(n)
		if whole = crc32.Checksum(r.Data, castagnoli) == sum; !whole {
			s.Skipped += int64(head) + n
			r.Data = nil
		}
		return r, whole, true
	}
	return Record{}, false, false
}

// readHead reads the head of the record that bytes begin with, and tells how long it is.
func readHead(b []byte, r *Record) (length int, ok bool) {
	le := binary.LittleEndian
	if len(b) < recordHead || string(b[:4]) != recordMagic {
		return 0, false
	}
	length = recordHead + int(le.Uint16(b[22:]))
	if length > len(b) || headSum(b[:length]) != le.Uint32(b[28:]) {
		return 0, false
	}
	*r = Record{Number: le.Uint64(b[8:]), Version: le.Uint32(b[16:]), Op: b[20], Kind: b[21], ID: string(b[recordHead:length])}
	return length, true
}
