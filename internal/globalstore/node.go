package globalstore

import (
	"slices"
)

// node is a dict or a leaf. Guarded by Store.mu.
type node struct {
	up     *node
	key    string
	serial uint64           // order among sisters: that in which they were made
	below  map[string]*node // nil: a leaf
	leaf   []byte
	end    *end // nil: it stays
}

func newDict() *node { return &node{below: map[string]*node{}} }

func (n *node) isDict() bool { return n.below != nil }

// children are what is below, in order.
func (n *node) children() []*node {
	list := make([]*node, 0, len(n.below))
	for _, c := range n.below {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *node) int {
		if a.serial < b.serial {
			return -1
		}
		return 1
	})
	return list
}

func (n *node) path() Path {
	var p Path
	for ; n.up != nil; n = n.up {
		p = append(p, n.key)
	}
	slices.Reverse(p)
	return p
}

// costOfNode is what a dict or leaf costs beside its key and bytes.
const costOfNode = 32

func costOf(key string) int64 { return costOfNode + int64(len(key)) }

// cost is what a node costs with all below it; that of none is nothing.
func (n *node) cost() int64 {
	if n == nil {
		return 0
	}
	sum := costOf(n.key) + int64(len(n.leaf))
	for _, c := range n.below {
		sum += c.cost()
	}
	return sum
}

// equals reports whether a node is a value, whatever the order of its keys.
func (n *node) equals(v *Value) bool {
	if n.isDict() != v.dict || len(n.below) != len(v.below) || string(n.leaf) != string(v.leaf) {
		return false
	}
	for i := range v.below {
		c := n.below[v.below[i].key]
		if c == nil || !c.equals(&v.below[i].value) {
			return false
		}
	}
	return true
}

// json is a node as one value (protocol/store.md, section 1).
func (n *node) json(out []byte) []byte {
	if !n.isDict() {
		return append(out, n.leaf...)
	}
	list := n.children()
	tagged := slices.ContainsFunc(list, func(c *node) bool { return c.key != "" && c.key[0] == '$' })
	first, mid, last, end := "{", ":", "", "}"
	if tagged {
		first, mid, last, end = `{"$dict":[`, ",", "]", "]}"
	}
	out = append(out, first...)
	for i, c := range list {
		if i > 0 {
			out = append(out, ',')
		}
		if tagged {
			out = append(out, '[')
		}
		out = append(appendText(out, c.key), mid...)
		out = append(c.json(out), last...)
	}
	return append(out, end...)
}
