package guado

import (
	"errors"
	"fmt"

	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/mirror"
)

// saveStoresAndPages keeps stores, and then the pages that have them: a page without its
// store would be half a page.
func (h *host) saveStoresAndPages() error {
	if h.stores != nil && !h.kept.keeps() {
		if err := h.stores.mirror.Save(h.config.Server.StateDir); err != nil {
			h.dropPages()
			return fmt.Errorf("%w; no page is kept without its store, so clients open theirs anew", err)
		}
	}
	return h.savePages()
}

// restoreStores takes back what a graceful stop has saved. Pages that rest on a store which
// cannot be had whole end, and their clients open new ones.
func (h *host) restoreStores() {
	switch {
	case h.stores == nil:
		return
	case h.kept.found != nil:
		h.recoverStores()
		return
	}
	found, err := h.stores.mirror.Load(h.config.Server.StateDir)
	if err != nil {
		h.log.Error("stores of before; pages that rest on one that is gone end, and their clients open new ones", "error", err)
	}
	for i := range found.Stores {
		h.restoreStore(&found.Stores[i])
	}
	for _, ref := range found.Lost {
		h.endRestingOn(ref)
	}
	if err != nil && !found.All {
		// Any page may have had more than is here.
		for _, p := range h.pages.List() {
			h.pages.EndFor(p.Page, item.Failed)
		}
	}
	if n := len(found.Stores); n > 0 {
		h.log.Info("stores of before are there again", "stores", n, "bytes", h.stores.mirror.Bytes())
	}
}

// restoreStore takes one back, if what it belongs to is there.
func (h *host) restoreStore(one *mirror.Saved) {
	owner, err := h.storeOwner(one.Ref())
	if err == nil && owner != one.Owner {
		err = errors.New("it is another user's")
	}
	if err == nil {
		err = h.stores.mirror.Restore(one.Owner, one.Ref(), one.Records)
	}
	if err == nil {
		return
	}
	h.log.Warn("a store of before is given up", "kind", one.Kind, "id", one.ID, "error", err)
	h.endRestingOn(one.Ref())
}
