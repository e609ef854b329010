package mirror

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/guado-server/guado/internal/statefile"
)

// file is that of stores in server.state_dir.
var file = statefile.Kind{Name: "guado-mirror", Version: 2}

const fileName = "mirror"

// savedHead is the first record.
type savedHead struct {
	Issued uint64 `json:"issued"` // the highest generation
}

// savedNames is which stores there are, some of them in each record. All are in the file twice,
// at its begin and at its end: what of it is damaged is missed.
type savedNames struct {
	Part  int   `json:"part"`
	Parts int   `json:"parts"`
	Names []Ref `json:"names"`
}

// perPart is how many names are in a record.
const perPart = 256

// Saved is one store, as it is kept from a graceful stop to the next start.
type Saved struct {
	Owner   string `json:"owner"`
	Kind    Kind   `json:"kind"`
	ID      string `json:"id"`
	Records []byte `json:"records"`
}

// Ref names the store.
func (s *Saved) Ref() Ref { return Ref{s.Kind, s.ID} }

// line is any record.
type line struct {
	savedHead
	savedNames
	Saved
}

// Loaded is what a file has of stores.
type Loaded struct {
	Stores []Saved
	Lost   []Ref // of which it is damaged
	All    bool  // Lost is all that is not there; false: nobody knows what was
}

// Save writes all stores into a file of a folder, once nobody commits any more.
func (m *Mirror) Save(dir string) error {
	all, issued := m.all()
	var names []savedNames
	for part := range slices.Chunk(all, perPart) {
		n := savedNames{Part: len(names), Parts: (len(all) + perPart - 1) / perPart}
		for i := range part {
			n.Names = append(n.Names, part[i].Ref())
		}
		names = append(names, n)
	}
	path := filepath.Join(dir, fileName)
	err := file.Write(path, 2+2*len(names)+len(all), func(yield func(any) bool) {
		list := func() bool {
			for i := range names {
				if !yield(&names[i]) {
					return false
				}
			}
			return yield(savedHead{issued})
		}
		if !list() {
			return
		}
		for i := range all {
			if !yield(&all[i]) {
				return
			}
		}
		list()
	})
	if err != nil {
		return fmt.Errorf("save stores to %s: %w", path, err)
	}
	return nil
}

// Load reads the file and removes it. Each store that it gives is whole, and in the mirror with
// [Mirror.Restore] only; generations are higher from now on than they ever were.
func (m *Mirror) Load(dir string) (Loaded, error) {
	return m.load(func(record func([]byte) error) error { return file.Take(filepath.Join(dir, fileName), record) })
}

func (m *Mirror) load(take func(record func([]byte) error) error) (Loaded, error) {
	var out Loaded
	var issued uint64
	known := map[Ref]bool{} // false: it is missing
	parts := map[int]savedNames{}
	err := take(func(data []byte) error {
		var one line
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		switch {
		case one.ID != "":
			out.Stores = append(out.Stores, one.Saved)
		case one.Parts > 0:
			parts[one.Part] = one.savedNames
		default:
			issued = max(issued, one.Issued)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("restore stores: %w", err)
	}
	if !statefile.Lossy(err) {
		return Loaded{}, err
	}
	m.Issue(issued)
	out.All = err == nil
	for _, n := range parts {
		out.All = out.All || len(parts) == n.Parts
		for _, ref := range n.Names {
			known[ref] = false
		}
	}
	for i := range out.Stores {
		known[out.Stores[i].Ref()] = true
	}
	for ref, there := range known {
		if !there {
			out.Lost = append(out.Lost, ref)
		}
	}
	return out, err
}

func (m *Mirror) all() (all []Saved, issued uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all = make([]Saved, 0, len(m.stores))
	for ref, s := range m.stores {
		all = append(all, Saved{s.user, ref.Kind, ref.ID, s.snapshot()})
	}
	return all, m.issued
}
