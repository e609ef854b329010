package mirror

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Difference is where a store of a worker is not as the host's copy of it, at the same commit.
type Difference struct {
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Path     string `json:"path"`
	Worker   string `json:"worker"` // what is there, as JSON; empty: nothing
	Host     string `json:"host"`
	Sequence uint64 `json:"sequence"` // of the worker's commit
}

// verifyHead is what the record has beside the snapshot: op, no keys, a length.
const verifyHead = 6

var kindNames = map[Kind]string{Page: "page", Connection: "connection", User: "user"}

// mostFound is how many differences wait for who asks; more are only counted.
const mostFound = 100

// Found gives the differences that commits of the source have shown since the last time.
func (from *Source) Found() []Difference {
	found := from.found
	from.found = nil
	return found
}

// verify compares a store with how its worker has it: a snapshot that came in a commit behind
// the records of the store.
func (m *Mirror) verifyLocked(from *Source, b *batch, s *store, theirs []byte) error {
	m.count.Compared++
	ours := s.snapshot()
	if bytes.Equal(ours, theirs) {
		return nil
	}
	other := &store{root: newDict()}
	if err := other.apply(-1, new(reader).begin(theirs), &undo{}); err != nil {
		return fmt.Errorf("the snapshot of store %q to compare: %w", b.id, err)
	}
	m.count.Differences++
	if len(from.found) < mostFound {
		d := differ(other, s)
		d.Kind, d.ID, d.Sequence = kindNames[b.kind], string(b.id), from.commit.sequence
		from.found = append(from.found, d)
	}
	return nil
}

// differ finds the first difference between two stores.
func differ(worker, host *store) Difference {
	if d, is := differNodes(worker.root, host.root, nil); is {
		return d
	}
	for i := range max(len(worker.changes), len(host.changes)) {
		var a, b []byte
		if i < len(worker.changes) {
			a = worker.changes[i]
		}
		if i < len(host.changes) {
			b = host.changes[i]
		}
		if !bytes.Equal(a, b) {
			return Difference{Path: fmt.Sprintf("changes[%d]", i), Worker: short(a), Host: short(b)}
		}
	}
	return Difference{Path: "changes", Worker: fmt.Sprint(worker.gone), Host: fmt.Sprint(host.gone)}
}

func differNodes(worker, host *node, at []string) (d Difference, is bool) {
	if worker == nil || host == nil || worker.dict == nil || host.dict == nil {
		return differValues(worker, host, at)
	}
	a, b := worker.keys(), host.keys()
	for _, key := range append(slices.Clone(a), b...) {
		if d, is := differNodes(worker.dict[key], host.dict[key], append(slices.Clip(at), key)); is {
			return d, true
		}
	}
	if !slices.Equal(a, b) {
		return Difference{Path: pathText(at) + " (the order of its keys)", Worker: strings.Join(a, ", "), Host: strings.Join(b, ", ")}, true
	}
	return Difference{}, false
}

func differValues(worker, host *node, at []string) (d Difference, is bool) {
	if worker != nil && host != nil && worker.list != nil && host.list != nil {
		a, b := *worker.list, *host.list
		for i := range min(len(a), len(b)) {
			if !bytes.Equal(a[i], b[i]) {
				return Difference{Path: fmt.Sprintf("%s[%d]", pathText(at), i), Worker: short(a[i]), Host: short(b[i])}, true
			}
		}
		if len(a) == len(b) {
			return Difference{}, false
		}
		return Difference{Path: pathText(at), Worker: fmt.Sprintf("%d items", len(a)), Host: fmt.Sprintf("%d items", len(b))}, true
	}
	var a, b []byte
	if worker != nil {
		a = worker.json()
	}
	if host != nil {
		b = host.json()
	}
	return Difference{Path: pathText(at), Worker: short(a), Host: short(b)}, !bytes.Equal(a, b)
}

// keys of a dict, in their order.
func (n *node) keys() []string {
	keys := make([]string, 0, len(n.dict))
	for key := range n.dict {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(n.dict[a].order, n.dict[b].order) })
	return keys
}

func pathText(keys []string) string {
	if len(keys) == 0 {
		return "the store itself"
	}
	return strings.Join(keys, ".")
}

const mostShown = 80

// short is enough of a value to be found by; values may be secrets of people, so never all.
func short(value []byte) string {
	if len(value) > mostShown {
		return string(bytes.ToValidUTF8(value[:mostShown], nil)) + "…"
	}
	return string(value)
}
