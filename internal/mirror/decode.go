package mirror

import (
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
)

type commit struct {
	sequence uint64
	users    []commitUser
	batches  []batch
}

type commitUser struct {
	name       string
	generation uint64
}

type batch struct {
	user    int
	ref     Ref
	token   uint64
	count   int
	records []byte
}

type record struct {
	op      op
	path    []string
	items   [][]byte // of SET and CHANGE: one
	number  uint64   // of DRAIN
	at      int
	removed int
}

// reader takes bytes apart; after the first that is missing it gives nothing but zeros.
type reader struct {
	data []byte
	err  error
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

func (r *reader) name() string {
	b := r.take(r.u16())
	if !utf8.Valid(b) {
		r.fail("a name is no UTF-8")
	}
	return string(b)
}

func (r *reader) path() []string {
	n := int(r.u8())
	if n > mostKeys {
		r.fail("a path of %d keys", n)
		return nil
	}
	path := make([]string, 0, n)
	for range n {
		key := r.name()
		if len(key) > mostKey {
			r.fail("a key of %d bytes", len(key))
		}
		path = append(path, key)
	}
	return path
}

// items are copied: a frame's memory is used again, and a small item would hold it.
func (r *reader) items() [][]byte {
	n := r.u32()
	if n > len(r.data)/4 {
		r.fail("%d items in %d bytes", n, len(r.data))
		return nil
	}
	items := make([][]byte, 0, n)
	for range n {
		items = append(items, r.bytes())
	}
	return items
}

func (r *reader) bytes() []byte {
	return append([]byte{}, r.take(r.u32())...)
}

func (r *reader) record() record {
	rec := record{op: op(r.u8()), path: r.path()}
	whole := rec.op >= opChange // of the store, not of a path
	if r.err == nil && whole != (len(rec.path) == 0) && rec.op != opClear {
		r.fail("record %d with a path of %d keys", rec.op, len(rec.path))
	}
	switch rec.op {
	case opSet, opChange:
		rec.items = [][]byte{r.bytes()}
	case opClear, opDelete:
	case opList, opAppend:
		rec.items = r.items()
	case opReplace:
		rec.at, rec.removed = r.u32(), r.u32()
		rec.items = r.items()
	case opDrain:
		rec.number = r.u64()
	default:
		r.fail("unknown record %d", rec.op)
	}
	return rec
}

// decodeCommit reads the state of a commit, and gives what is behind it.
func decodeCommit(data []byte) (commit, []byte, error) {
	r := &reader{data: data}
	if v := r.u8(); v != version {
		r.fail("version %d of its state, and this is %d", v, version)
	}
	for _, b := range r.take(7) {
		if b != 0 {
			r.fail("what is zero is %d", b)
		}
	}
	c := commit{sequence: r.u64()}
	names := map[string]bool{}
	for range r.u16() {
		u := commitUser{r.name(), r.u64()}
		if names[u.name] {
			r.fail("user %q twice", u.name)
		}
		names[u.name] = true
		c.users = append(c.users, u)
	}
	seen := map[Ref]bool{}
	for range r.u32() {
		b := batch{user: r.u16(), ref: Ref{Kind(r.u8()), r.name()}, token: r.u64(), count: r.u32()}
		b.records = r.take(r.u32())
		switch {
		case r.err != nil:
			return commit{}, nil, r.err
		case b.user >= len(c.users):
			r.fail("user %d of %d", b.user, len(c.users))
		case b.ref.Kind < Page || b.ref.Kind > User:
			r.fail("a store of kind %d", b.ref.Kind)
		case seen[b.ref]:
			r.fail("store %q twice", b.ref.ID)
		}
		seen[b.ref] = true
		c.batches = append(c.batches, b)
	}
	return c, r.data, r.err
}
