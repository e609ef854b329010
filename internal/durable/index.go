package durable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
)

// index is a file beside the segments, which has the version of every item: what of an item a
// damaged or cut log does not have is missed by it. A slot is 24 bytes: u64 hash of the key,
// u32 version, u32 flags (1: it has ended), u32 CRC-32C of these, u32 zero.
type index struct {
	file *os.File
	// next and spare are slots that are free, guarded by Log.mu.
	next  int32
	spare []int32
}

const (
	slotSize = 24
	slotDead = 1
)

// slot is what the index knows of an item.
type slot struct {
	at      int32
	hash    uint64
	version uint32
	dead    bool
}

// hashOf is what stands for a key: nobody can make two that are the same.
func hashOf(k Key) uint64 {
	h := sha256.New()
	h.Write([]byte{k.Kind})
	h.Write([]byte(k.ID))
	return binary.LittleEndian.Uint64(h.Sum(nil))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *slot) append(out []byte) []byte {
	le := binary.LittleEndian
	at := len(out)
	out = le.AppendUint64(out, s.hash)
	out = le.AppendUint32(out, s.version)
	flags := uint32(0)
	if s.dead {
		flags = slotDead
	}
	out = le.AppendUint32(out, flags)
	out = le.AppendUint32(out, crc32.Checksum(out[at:], castagnoli))
	return le.AppendUint32(out, 0)
}

// readIndex reads what an index knows; slots that are damaged are told of, and left out.
func readIndex(from disk, path string) (slots []slot, next int32, damaged int, err error) {
	data, err := from.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, 0, nil
	}
	if err != nil {
		return nil, 0, 0, err
	}
	le := binary.LittleEndian
	for at := 0; at+slotSize <= len(data); at += slotSize {
		b := data[at : at+slotSize]
		if crc32.Checksum(b[:16], castagnoli) != le.Uint32(b[16:]) || !bytes.Equal(b[20:], make([]byte, 4)) {
			damaged++
			continue
		}
		if hash := le.Uint64(b); hash != 0 {
			slots = append(slots, slot{int32(at / slotSize), hash, le.Uint32(b[8:]), le.Uint32(b[12:])&slotDead != 0})
		}
	}
	return slots, int32((len(data) + slotSize - 1) / slotSize), damaged, nil
}

func openIndex(path string, next int32) (*index, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &index{file: f, next: next}, nil
}

// free gives a slot that nobody has. Log.mu is held.
func (x *index) free() int32 {
	if n := len(x.spare); n > 0 {
		at := x.spare[n-1]
		x.spare = x.spare[:n-1]
		return at
	}
	x.next++
	return x.next - 1
}

// write writes slots, those that lie together at once.
func (x *index) write(slots []slot) error {
	slices.SortFunc(slots, func(a, b slot) int { return int(a.at) - int(b.at) })
	for len(slots) > 0 {
		n := 1
		out := slots[0].append(make([]byte, 0, slotSize))
		for n < len(slots) && slots[n].at == slots[n-1].at+1 {
			out = slots[n].append(out)
			n++
		}
		if _, err := x.file.WriteAt(out, int64(slots[0].at)*slotSize); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		slots = slots[n:]
	}
	return nil
}

func (x *index) sync() error {
	if err := x.file.Sync(); err != nil {
		return fmt.Errorf("fsync of the index: %w", err)
	}
	return nil
}

func (x *index) close() error {
	if x == nil {
		return nil
	}
	return errors.Join(x.file.Sync(), x.file.Close())
}
