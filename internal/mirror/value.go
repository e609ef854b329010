package mirror

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Hand gives a store to a worker that does not have it: as Snapshot, and the tokens of its locks
// begin anew, because those of the worker before ended with it.
func (m *Mirror) Hand(ref Ref) (records []byte, generation uint64, err error) {
	m.mu.Lock()
	if s := m.stores[ref]; s != nil {
		s.token = 0
	}
	m.mu.Unlock()
	return m.Snapshot(ref)
}

// Has reports whether there is a store. Each request asks for those of its connection and user.
func (m *Mirror) Has(ref Ref) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stores[ref] != nil
}

// Value is what is at a path of a store, as one value in JSON; false: there is nothing. The
// empty path is the whole store.
func (m *Mirror) Value(ref Ref, path []string) (value []byte, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stores[ref]
	if s == nil {
		return nil, false, fmt.Errorf("store %q: %w", ref.ID, ErrNoStore)
	}
	n := s.root
	for _, key := range path {
		if n = n.dict[key]; n == nil {
			return nil, false, nil
		}
	}
	return n.json(), true, nil
}

// json is a node in the form of protocol/store.md, section 1.
func (n *node) json() (out []byte) {
	switch {
	case n.list != nil:
		out = append(out, '[')
		for i, item := range *n.list {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, item...)
		}
		return append(out, ']')
	case n.dict == nil:
		return append(out, n.leaf...)
	}
	keys := make([]string, 0, len(n.dict))
	for key := range n.dict {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(n.dict[a].order, n.dict[b].order) })
	// A key that begins with a dollar sign would be taken for the name of a type.
	tagged := slices.ContainsFunc(keys, func(key string) bool { return key != "" && key[0] == '$' })
	first, before, mid, behind, last := "{", "", ":", "", "}"
	if tagged {
		first, before, mid, behind, last = `{"$dict":[`, "[", ",", "]", "]}"
	}
	out = append(out, first...)
	for i, key := range keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(appendText(append(out, before...), key), mid...), n.dict[key].json()...)
		out = append(out, behind...)
	}
	return append(out, last...)
}

// appendText writes a text as JSON: only what must be is escaped.
func appendText(out []byte, text string) []byte {
	out = append(out, '"')
	for i := range len(text) {
		c := text[i]
		short := strings.IndexByte("\"\\\n\r\t\b\f", c)
		switch {
		case short >= 0:
			out = append(out, '\\', `"\nrtbf`[short])
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
