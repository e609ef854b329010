package guado

import (
	"errors"
	"fmt"

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

// restoreStores takes back what a graceful stop has saved. Where it cannot be had whole, the
// pages of before end, and their clients open new ones.
func (h *host) restoreStores() {
	switch {
	case h.stores == nil:
		return
	case h.kept.found != nil:
		h.recoverStores()
		return
	}
	all, err := h.stores.mirror.Load(h.config.Server.StateDir)
	if err != nil {
		h.log.Error("stores of before; their pages end, and clients open new ones", "error", err)
		for _, p := range h.pages.List() {
			h.pages.End(p.Page)
		}
		return
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
	if one.Kind == mirror.Page {
		h.pages.End(one.ID)
	}
}
