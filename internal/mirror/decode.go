package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

const (
	version  = 1
	mostKeys = 32
	mostKey  = 512
)

type op uint8

const (
	opSet op = 1 + iota
	opClear
	opDelete
	opList
	opAppend
	opReplace
	opChange
	opDrain
	opVerify
	opShare
	opNote
)

// commit is one as it lies in its frame: nothing of it is copied.
type commit struct {
	sequence uint64
	users    []commitUser
	batches  []batch
}

type commitUser struct {
	name       []byte
	generation uint64
}

type batch struct {
	user    int
	kind    Kind
	id      []byte
	token   uint64
	count   int
	records []byte
}

// record is one as it lies in its frame, good until the next one is read.
type record struct {
	op      op
	path    [][]byte
	items   [][]byte // of SET, CHANGE, VERIFY, SHARE and NOTE: one
	number  uint64   // of DRAIN
	at      int
	removed int
}

// reader takes bytes apart; after the first that is missing it gives nothing but zeros.
type reader struct {
	data  []byte
	err   error
	keys  [mostKeys][]byte
	items [][]byte

	verify []byte // how its worker has the store behind these records; nil: it did not say

	touches *touches // collects what is written; nil: nobody is told of it
	note    note     // of the next records
}

// mostItems is how much memory for the items of a record is kept for the next one.
const mostItems = 256

// begin makes it read other bytes.
func (r *reader) begin(data []byte) *reader {
	r.data, r.err, r.verify, r.touches, r.note = data, nil, nil, nil, note{}
	if cap(r.items) > mostItems {
		r.items = nil
	}
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
	}
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.data) {
		r.fail("it ends early")
		return nil
	}
	part := r.data[:n:n]
	r.data = r.data[n:]
	return part
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() int {
	if b := r.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (r *reader) u32() int {
	if b := r.take(4); b != nil {
		return int(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) name() []byte {
	b := r.take(r.u16())
	if !utf8.Valid(b) {
		r.fail("a name is no UTF-8")
	}
	return b
}

func (r *reader) path() [][]byte {
	n := int(r.u8())
	if n > mostKeys {
		r.fail("a path of %d keys", n)
		return nil
	}
	for i := range n {
		key := r.name()
		if len(key) > mostKey {
			r.fail("a key of %d bytes", len(key))
		}
		r.keys[i] = key
	}
	return r.keys[:n]
}

func (r *reader) list() [][]byte {
	n := r.u32()
	if n > len(r.data)/4 {
		r.fail("%d items in %d bytes", n, len(r.data))
		return nil
	}
	r.items = r.items[:0]
	for range n {
		r.items = append(r.items, r.bytes())
	}
	return r.items
}

func (r *reader) bytes() []byte { return r.take(r.u32()) }

// copied is for what stays: a frame's memory is used again, and a small item would hold all of it.
func copied(b []byte) []byte { return append([]byte{}, b...) }

func allCopied(items [][]byte) [][]byte {
	out := make([][]byte, len(items))
	for i, item := range items {
		out[i] = copied(item)
	}
	return out
}

func (r *reader) record() record {
	rec := record{op: op(r.u8()), path: r.path()}
	whole := rec.op >= opChange // of the store, not of a path
	if r.err == nil && whole != (len(rec.path) == 0) && rec.op != opClear {
		r.fail("record %d with a path of %d keys", rec.op, len(rec.path))
	}
	switch rec.op {
	case opSet, opChange, opVerify, opShare, opNote:
		r.items = append(r.items[:0], r.bytes())
		rec.items = r.items
	case opClear, opDelete:
	case opList, opAppend:
		rec.items = r.list()
	case opReplace:
		rec.at, rec.removed = r.u32(), r.u32()
		rec.items = r.list()
	case opDrain:
		rec.number = r.u64()
	default:
		r.fail("unknown record %d", rec.op)
	}
	return rec
}

// decode reads the state of a commit, and gives what is behind it.
func (c *commit) decode(r *reader) ([]byte, error) {
	if v := r.u8(); v != version {
		r.fail("version %d of its state, and this is %d", v, version)
	}
	for _, b := range r.take(7) {
		if b != 0 {
			r.fail("what is zero is %d", b)
		}
	}
	c.sequence, c.users, c.batches = r.u64(), c.users[:0], c.batches[:0]
	for range r.u16() {
		c.users = append(c.users, commitUser{r.name(), r.u64()})
	}
	for range r.u32() {
		b := batch{user: r.u16(), kind: Kind(r.u8()), id: r.name(), token: r.u64(), count: r.u32()}
		b.records = r.take(r.u32())
		switch {
		case r.err != nil:
			return nil, r.err
		case b.user >= len(c.users):
			r.fail("user %d of %d", b.user, len(c.users))
		case b.kind < Page || b.kind > User:
			r.fail("a store of kind %d", b.kind)
		}
		c.batches = append(c.batches, b)
	}
	if r.err == nil {
		r.err = c.once()
	}
	return r.data, r.err
}

// few is how many names are compared with each other; more are put into a map.
const few = 8

// once reports what is named twice.
func (c *commit) once() error {
	if len(c.users) <= few && len(c.batches) <= few {
		return c.onceOfFew()
	}
	users, stores := map[string]bool{}, map[Ref]bool{}
	for _, u := range c.users {
		if users[string(u.name)] {
			return fmt.Errorf("%w: user %q twice", ErrCorrupt, u.name)
		}
		users[string(u.name)] = true
	}
	for _, b := range c.batches {
		ref := Ref{b.kind, string(b.id)}
		if stores[ref] {
			return fmt.Errorf("%w: store %q twice", ErrCorrupt, b.id)
		}
		stores[ref] = true
	}
	return nil
}

func (c *commit) onceOfFew() error {
	for i, u := range c.users {
		for _, v := range c.users[:i] {
			if bytes.Equal(u.name, v.name) {
				return fmt.Errorf("%w: user %q twice", ErrCorrupt, u.name)
			}
		}
	}
	for i, b := range c.batches {
		for _, d := range c.batches[:i] {
			if b.kind == d.kind && bytes.Equal(b.id, d.id) {
				return fmt.Errorf("%w: store %q twice", ErrCorrupt, b.id)
			}
		}
	}
	return nil
}
