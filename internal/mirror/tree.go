package mirror

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// What the account counts beside keys and bytes.
const (
	nodeCost = 32
	itemCost = 16
)

// node is a dict, a list or a leaf: what is not nil.
type node struct {
	order uint64 // its place among its sisters
	dict  map[string]*node
	list  *[][]byte
	leaf  []byte
}

func newDict() *node { return &node{dict: map[string]*node{}} }

func itemsCost(items [][]byte) int64 {
	n := int64(0)
	for _, item := range items {
		n += itemCost + int64(len(item))
	}
	return n
}

// cost of a node at a key, with all below.
func (n *node) cost(key []byte) int64 { return int64(len(key)) + n.own() }

func (n *node) own() int64 {
	own := nodeCost + int64(len(n.leaf))
	if n.list != nil {
		own += itemsCost(*n.list)
	}
	return own + n.below()
}

func (n *node) below() int64 {
	sum := int64(0)
	for key, child := range n.dict {
		sum += int64(len(key)) + child.own()
	}
	return sum
}

// apply does the records that r reads, count of them (-1: any number), and adds to done what
// undoes them.
func (s *store) apply(count int, r *reader, done *undo) error {
	n := 0
	for ; len(r.data) > 0; n++ {
		rec := r.record()
		if r.err != nil {
			return r.err
		}
		switch {
		case r.verify != nil:
			return fmt.Errorf("%w: record %d comes behind the one that says how the store is", ErrCorrupt, n)
		case rec.op == opVerify:
			r.verify = rec.items[0]
			continue
		case rec.op == opNote:
			if err := r.takeNote(rec.items[0]); err != nil {
				return fmt.Errorf("%w: record %d: %w", ErrCorrupt, n, err)
			}
			continue
		}
		if err := s.do(rec, done); err != nil {
			return fmt.Errorf("%w: record %d at %q: %w", ErrCorrupt, n, rec.path, err)
		}
		if r.touches != nil {
			r.touches.add(&rec, r)
		}
	}
	if count >= 0 && n != count {
		return fmt.Errorf("%w: %d records instead of %d", ErrCorrupt, n, count)
	}
	return nil
}

func (s *store) do(rec record, done *undo) error {
	switch {
	case rec.op == opChange:
		done.changes(s)
		s.changes = append(slices.Clip(s.changes), copied(rec.items[0]))
		s.bytes += itemsCost(rec.items)
		return nil
	case rec.op == opDrain:
		return s.drain(rec.number, done)
	case rec.op == opShare:
		return s.share(rec.items[0], done)
	case len(rec.path) == 0:
		done.root(s)
		s.bytes -= s.root.below()
		s.root = newDict()
		return nil
	}
	parent, err := s.parent(rec, done)
	if err != nil {
		return err
	}
	key := rec.path[len(rec.path)-1]
	switch rec.op {
	case opDelete:
		old := parent.dict[string(key)]
		if old == nil {
			return fmt.Errorf("there is no %q", key)
		}
		done.deleted(parent, string(key), old)
		s.bytes -= old.cost(key)
		delete(parent.dict, string(key))
	case opSet:
		s.put(parent, key, node{leaf: copied(rec.items[0])}, done)
	case opClear:
		s.put(parent, key, node{dict: map[string]*node{}}, done)
	case opList:
		list := allCopied(rec.items)
		s.put(parent, key, node{list: &list}, done)
	case opAppend, opReplace:
		return s.splice(parent.dict[string(key)], rec, done)
	}
	return nil
}

// parent is the dict that holds the last key of a path; those missing are made, but for what
// must be there.
func (s *store) parent(rec record, done *undo) (*node, error) {
	at := s.root
	for _, key := range rec.path[:len(rec.path)-1] {
		next := at.dict[string(key)]
		if next == nil {
			if rec.op != opSet && rec.op != opClear && rec.op != opList {
				return nil, fmt.Errorf("there is no %q", key)
			}
			next = s.put(at, key, node{dict: map[string]*node{}}, done)
		}
		if next.dict == nil {
			return nil, fmt.Errorf("%q is no dict", key)
		}
		at = next
	}
	return at, nil
}

// put makes the node at a key be as n; one that is there keeps its place among its sisters.
func (s *store) put(parent *node, key []byte, n node, done *undo) *node {
	at := parent.dict[string(key)]
	if at != nil {
		done.node(at)
		s.bytes -= at.cost(key)
		n.order = at.order
	} else {
		at = &node{}
		s.order++
		n.order = s.order
		name := string(key)
		done.added(parent, name)
		parent.dict[name] = at
	}
	*at = n
	s.bytes += at.cost(key)
	return at
}

func (s *store) splice(n *node, rec record, done *undo) error {
	if n == nil || n.list == nil {
		return fmt.Errorf("there is no list")
	}
	before := *n.list
	if rec.op == opAppend {
		done.list(n.list)
		grown := before // what is behind its end is nobody's
		for _, item := range rec.items {
			grown = append(grown, copied(item))
		}
		*n.list = grown
		s.bytes += itemsCost(rec.items)
		return nil
	}
	end := rec.at + rec.removed
	if end > len(before) {
		return fmt.Errorf("items %d to %d of %d", rec.at, end, len(before))
	}
	done.list(n.list)
	s.bytes += itemsCost(rec.items) - itemsCost(before[rec.at:end])
	*n.list = slices.Concat(before[:rec.at], allCopied(rec.items), before[end:])
	return nil
}

func (s *store) drain(number uint64, done *undo) error {
	last := s.gone + uint64(len(s.changes))
	if number < s.gone || number > last && last > 0 {
		return fmt.Errorf("changes %d to %d wait, and not %d", s.gone+1, last, number)
	}
	done.changes(s)
	n := min(number-s.gone, uint64(len(s.changes)))
	s.bytes -= itemsCost(s.changes[:n])
	s.gone, s.changes = number, slices.Clone(s.changes[n:])
	return nil
}

func (s *store) snapshot() []byte {
	out := appendDict(nil, s.root, nil)
	if s.gone > 0 {
		out = binary.LittleEndian.AppendUint64(append(out, byte(opDrain), 0), s.gone)
	}
	for _, change := range s.changes {
		out = appendBytes(append(out, byte(opChange), 0), change)
	}
	for _, sh := range s.shares {
		out = appendBytes(append(out, byte(opShare), 0), sh.text)
	}
	return out
}

func appendDict(out []byte, dict *node, path []string) []byte {
	keys := make([]string, 0, len(dict.dict))
	for key := range dict.dict {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(dict.dict[a].order, dict.dict[b].order) })
	for _, key := range keys {
		n, at := dict.dict[key], append(slices.Clip(path), key)
		switch {
		case n.dict != nil:
			out = appendDict(appendPath(append(out, byte(opClear)), at), n, at)
		case n.list != nil:
			out = appendPath(append(out, byte(opList)), at)
			out = binary.LittleEndian.AppendUint32(out, uint32(len(*n.list)))
			for _, item := range *n.list {
				out = appendBytes(out, item)
			}
		default:
			out = appendBytes(appendPath(append(out, byte(opSet)), at), n.leaf)
		}
	}
	return out
}

func appendPath(out []byte, path []string) []byte {
	out = append(out, byte(len(path)))
	for _, key := range path {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(key)))
		out = append(out, key...)
	}
	return out
}

func appendBytes(out, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(data))), data...)
}
