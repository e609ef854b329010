package mirror

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/guado-server/guado/internal/statefile"
)

// file is that of stores in server.state_dir. A store of 1 MiB may have many times that in
// records, for each names its whole path.
var file = statefile.Kind{Name: "guado-mirror", Version: 1, Line: 256 << 20}

const fileName = "mirror"

// savedHead is the first line.
type savedHead struct {
	Issued uint64 `json:"issued"` // the highest generation
}

// Saved is one store, as it is kept from a graceful stop to the next start.
type Saved struct {
	Owner   string `json:"owner"`
	Kind    Kind   `json:"kind"`
	ID      string `json:"id"`
	Records []byte `json:"records"`
}

// Ref names the store.
func (s *Saved) Ref() Ref { return Ref{s.Kind, s.ID} }

// Save writes all stores into a file of a folder, once nobody commits any more.
func (m *Mirror) Save(dir string) error {
	all, issued := m.all()
	path := filepath.Join(dir, fileName)
	err := file.Write(path, 1+len(all), func(yield func(any) bool) {
		if !yield(savedHead{issued}) {
			return
		}
		for i := range all {
			if !yield(&all[i]) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("save stores to %s: %w", path, err)
	}
	return nil
}

// Load reads the file and removes it. What it gives is whole, and in the mirror with
// [Mirror.Restore] only; generations are higher from now on than they ever were.
func (m *Mirror) Load(dir string) (all []Saved, err error) {
	var head *savedHead
	err = file.Take(filepath.Join(dir, fileName), func(line []byte) error {
		if head == nil {
			head = &savedHead{}
			return json.Unmarshal(line, head)
		}
		var one Saved
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("restore stores: %w", err)
	}
	if head != nil {
		m.mu.Lock()
		m.issued = max(m.issued, head.Issued)
		m.mu.Unlock()
	}
	return all, nil
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
