package guado

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/statefile"
)

// mirrorKind is the file of stores in server.state_dir. A store of 1 MiB has more records
// than that, for each names its whole path.
var mirrorKind = statefile.Kind{Name: "guado-mirror", Version: 1, Line: 64 << 20}

const mirrorFile = "mirror"

// savedStores is the first line.
type savedStores struct {
	Issued uint64 `json:"issued"` // the highest generation
}

// saveStoresAndPages keeps stores, and then the pages that have them: a page without its
// store would be half a page.
func (h *host) saveStoresAndPages() error {
	if err := h.saveStores(); err != nil {
		h.dropPages()
		return fmt.Errorf("%w; no page is kept without its store, so clients open theirs anew", err)
	}
	return h.savePages()
}

func (h *host) saveStores() error {
	if h.stores == nil {
		return nil
	}
	m := h.stores.mirror
	all := m.All()
	path := filepath.Join(h.config.Server.StateDir, mirrorFile)
	err := mirrorKind.Write(path, 1+len(all), func(yield func(any) bool) {
		if !yield(savedStores{m.Issued()}) {
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

// restoreStores takes back what a graceful stop has saved. Where it cannot be had whole, the
// pages of before end, and their clients open new ones.
func (h *host) restoreStores() {
	if h.stores == nil {
		return
	}
	var head *savedStores
	var all []mirror.Saved
	err := mirrorKind.Take(filepath.Join(h.config.Server.StateDir, mirrorFile), func(line []byte) error {
		if head == nil {
			head = &savedStores{}
			return json.Unmarshal(line, head)
		}
		var one mirror.Saved
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		h.log.Error("stores of before; their pages end, and clients open new ones", "error", err)
		h.endPages()
		return
	}
	if head != nil {
		h.stores.mirror.Raise(head.Issued)
	}
	for i := range all {
		h.restoreStore(&all[i])
	}
	if len(all) > 0 {
		h.log.Info("stores of before are there again", "stores", len(all), "bytes", h.stores.mirror.Bytes())
	}
}

// restoreStore takes one back, if what it belongs to is there.
func (h *host) restoreStore(one *mirror.Saved) {
	ref := mirror.Ref{Kind: one.Kind, ID: one.ID}
	owner, err := h.storeOwner(ref)
	if err == nil && owner != one.Owner {
		err = errors.New("it is another user's")
	}
	if err == nil {
		err = h.stores.mirror.Restore(one.Owner, ref, one.Records)
	}
	if err == nil {
		return
	}
	h.log.Warn("a store of before is given up", "kind", one.Kind, "id", one.ID, "error", err)
	if ref.Kind == mirror.Page {
		h.pages.End(ref.ID)
	}
}

// endPages ends all pages.
func (h *host) endPages() {
	for _, p := range h.pages.List() {
		h.pages.End(p.Page)
	}
}
