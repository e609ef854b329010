package mirror

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
)

// touches is what one commit has written to a store of which somebody is told. What is told is
// how the path is behind the commit, and not each of its steps.
type touches struct {
	ref    Ref
	all    []touch
	index  map[string]int
	values map[string][]byte // that were asked for, as JSON
}

// touch is a path that was written.
type touch struct {
	path   []string
	key    string
	note   note
	splice *splice // of a list, when that is all that was done to it
	above  bool    // a path above it was written, too
}

// splice is one change of a list.
type splice struct {
	at, removed int
	items       [][]byte
}

// note is what a worker says of the records that follow: record NOTE.
type note struct {
	Records    int             `json:"n"`
	Reason     json.RawMessage `json:"reason"`
	Attributes json.RawMessage `json:"attributes"`
	By         string          `json:"by"` // the page whose client wrote it
	As         uint64          `json:"as"` // by this message; 0: by a request
}

// same reports whether the same message of a client wrote it.
func (n *note) same(o *note) bool { return n.By == o.By && n.As == o.As }

// takeNote reads what is said of the next records.
func (r *reader) takeNote(text []byte) error {
	if r.touches == nil {
		return nil
	}
	r.note = note{}
	if err := json.Unmarshal(text, &r.note); err != nil {
		return fmt.Errorf("a note: %w", err)
	}
	return nil
}

// touchesLocked collects what a batch writes, where anybody is told of the store.
func (m *Mirror) touchesLocked(from *Source, b *batch) *touches {
	if len(m.watch.of) == 0 || len(m.watch.of[Ref{b.kind, string(b.id)}]) == 0 {
		return nil
	}
	from.touched = append(from.touched, touches{ref: Ref{b.kind, string(b.id)}})
	return &from.touched[len(from.touched)-1]
}

func (t *touches) add(rec *record, r *reader) {
	said := note{}
	if r.note.Records > 0 {
		r.note.Records--
		said = r.note
	}
	var one *splice
	switch rec.op {
	case opAppend:
		one = &splice{at: -1}
	case opReplace:
		one = &splice{at: rec.at, removed: rec.removed}
	case opSet, opClear, opDelete, opList:
	default:
		return
	}
	if one != nil {
		for _, item := range rec.items {
			one.items = append(one.items, copied(item))
		}
	}
	path := make([]string, len(rec.path))
	for i, key := range rec.path {
		path[i] = string(key)
	}
	t.put(path, said, one)
}

func (t *touches) put(path []string, said note, one *splice) {
	key := keyOf(path)
	if i, there := t.index[key]; there {
		o := &t.all[i]
		if !o.note.same(&said) {
			said.By, said.As = "", 0
		}
		o.note = said
		o.splice = o.splice.with(one)
		return
	}
	if t.index == nil {
		t.index = map[string]int{}
	}
	t.index[key] = len(t.all)
	t.all = append(t.all, touch{path: path, key: key, note: said, splice: one})
}

// with is both as one; nil: they are none.
func (s *splice) with(o *splice) *splice {
	if s == nil || o == nil || s.at >= 0 || o.at >= 0 {
		return nil
	}
	return &splice{at: -1, items: append(s.items, o.items...)}
}

// settle leaves of paths that are below each other the highest, and of those the rest hears
// nothing: it is in the value.
func (t *touches) settle() {
	for i := range t.all {
		one := &t.all[i]
		for end, n := 0, 0; n < len(one.path); n++ {
			if j, there := t.index[one.key[:end]]; there {
				high := &t.all[j]
				if one.above = true; !high.note.same(&one.note) {
					high.note.By, high.note.As = "", 0
				}
				break
			}
			end += 2 + len(one.path[n])
		}
	}
}

// value is what is at a path behind the commit, as JSON; nil: nothing. Pages that may not hear of
// the store have no root, and those that may share what was asked for.
func (t *touches) value(root *node, path []string, key string) []byte {
	if root == nil {
		return nil
	}
	if value, known := t.values[key]; known {
		return value
	}
	value := root.at(path)
	if t.values == nil {
		t.values = map[string][]byte{}
	}
	t.values[key] = value
	return value
}

// at is what is at a path below a node, as JSON; nil: nothing.
func (n *node) at(path []string) []byte {
	for _, key := range path {
		if n == nil {
			return nil
		}
		n = n.dict[key]
	}
	if n == nil {
		return nil
	}
	return n.json()
}

// keyOf is a path as one text: what is above a path is how its text begins.
func keyOf(path []string) string {
	var b strings.Builder
	for _, key := range path {
		var size [2]byte
		binary.LittleEndian.PutUint16(size[:], uint16(len(key)))
		b.Write(size[:])
		b.WriteString(key)
	}
	return b.String()
}
