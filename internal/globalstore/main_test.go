package globalstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t interface {
	Helper()
	Cleanup(func())
}, limits Limits) *Store {
	t.Helper()
	s := New(Options{Limits: func() Limits { return limits }})
	t.Cleanup(s.Close)
	return s
}

// copyOf is a worker's copy, kept by what comes over its link.
type copyOf struct {
	updates [][]byte
	number  uint64
	root    any // map[string]any of such and of string: a leaf's bytes
	err     error
}

func (c *copyOf) Global(update []byte) error {
	if c.err != nil {
		return c.err
	}
	c.updates = append(c.updates, update)
	return nil
}

var errOrder = errors.New("an update is missing")

// apply applies what has come.
func (c *copyOf) apply() error {
	for _, u := range c.updates {
		number, what, b := binary.LittleEndian.Uint64(u), u[8], u[16:]
		switch {
		case what == snapshotKind:
			c.root = map[string]any{}
		case number != c.number+1:
			return errOrder
		}
		c.number = number
		for len(b) > 0 {
			b = c.record(b)
		}
	}
	c.updates = nil
	return nil
}

func (c *copyOf) record(b []byte) []byte {
	op, keys := b[0], int(b[1])
	b = b[2:]
	path := make(Path, keys)
	for i := range path {
		n := int(binary.LittleEndian.Uint16(b))
		path[i], b = string(b[2:2+n]), b[2+n:]
	}
	if keys == 0 {
		c.root = map[string]any{}
		return b
	}
	at, _ := c.root.(map[string]any)
	for _, key := range path[:keys-1] {
		next, is := at[key].(map[string]any)
		if !is {
			next = map[string]any{}
			at[key] = next
		}
		at = next
	}
	switch op {
	case opSet:
		n := int(binary.LittleEndian.Uint32(b))
		at[path[keys-1]], b = string(b[4:4+n]), b[4+n:]
	case opClear:
		at[path[keys-1]] = map[string]any{}
	case opDelete:
		delete(at, path[keys-1])
	}
	return b
}

// tree is what a copy has, for comparison.
func (n *node) tree() any {
	if !n.isDict() {
		return string(n.leaf)
	}
	out := map[string]any{}
	for key, c := range n.below {
		out[key] = c.tree()
	}
	return out
}

func dotted(path string) Path { return strings.Split(path, ".") }

func value(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) Value {
	t.Helper()
	v, err := Exact([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func same(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}
