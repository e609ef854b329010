package guado

import (
	"errors"

	"github.com/guado-server/guado/internal/durable"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/mirror"
)

// What a server does with the log of one that was killed, or told to stop: items that the log
// has are there again; for each that is damaged, pages that rest on it end, and their clients
// open new ones.

// restoreIdentity takes back who was known.
func (h *host) restoreIdentity() {
	if h.kept.found == nil {
		if err := h.identity.Restore(); err != nil {
			h.log.Error("connections of before the stop", "error", err)
		}
		return
	}
	var all [][]byte
	for _, i := range h.kept.found.Items {
		if i.Kind == kindConnection || i.Kind == kindUser {
			all = append(all, i.Base)
		}
	}
	h.identity.Load(all, h.kept.known().Stopped)
	for _, k := range h.kept.found.Damaged {
		if k.Kind == kindConnection {
			h.log.Error("a connection of before is damaged: its browser must log in again", "connection", k.ID)
		}
	}
}

// recoverPages takes back pages and their sessions.
func (h *host) recoverPages() {
	found, n := h.kept.found, 0
	for _, i := range found.Items {
		if i.Kind != kindPage {
			continue
		}
		err := h.pages.Load(i.Base, !h.kept.known().Stopped.IsZero(), h.topics.subscribe)
		if err == nil {
			if owner, ok := h.pages.Owner(i.ID); !ok || !h.knowsConnection(owner) {
				h.pages.EndFor(i.ID, item.Above)
				err = errors.New("its connection is not there")
			}
		}
		if err != nil {
			h.giveUp(i.Key, err)
			continue
		}
		n++
	}
	for _, k := range found.Damaged {
		if k.Kind == kindPage {
			h.giveUp(k, errNotWhole)
		}
	}
	if n > 0 {
		h.log.Info("pages of before are open again", "pages", n, "stopped", !h.kept.known().Stopped.IsZero())
	}
}

var errNotWhole = errors.New("the log does not have it whole")

func (h *host) knowsConnection(id string) bool {
	_, is := h.identity.Find(id)
	return is
}

// giveUp takes an item out of the log that cannot be had.
func (h *host) giveUp(k durable.Key, why error) {
	h.log.Error("state of before is given up; pages that rest on it end, and their clients open new ones", "kind", k.Kind, "id", k.ID, "error", why)
	if log := h.kept.log.Load(); log != nil {
		log.Append(durable.Change{Key: k, Op: durable.Drop})
	}
}

// recoverStores takes back stores, and ends the pages that rest on one that is damaged.
func (h *host) recoverStores() {
	found, n := h.kept.found, 0
	for key, i := range found.Items {
		if key.Kind <= kindStore {
			continue
		}
		ref := mirror.Ref{Kind: mirror.Kind(key.Kind - kindStore), ID: key.ID}
		owner, err := h.storeOwner(ref)
		if err == nil {
			err = h.stores.mirror.Restore(owner, ref, i.Base, i.Deltas...)
			if err != nil {
				h.endRestingOn(ref)
			}
		}
		if err != nil {
			h.giveUp(key, err)
			continue
		}
		n++
	}
	for _, k := range found.Damaged {
		if k.Kind > kindStore {
			h.giveUp(k, errNotWhole)
			h.endRestingOn(mirror.Ref{Kind: mirror.Kind(k.Kind - kindStore), ID: k.ID})
		}
	}
	h.endLost(found)
	if n > 0 {
		h.log.Info("stores of before are there again", "stores", n, "bytes", h.stores.mirror.Bytes())
	}
}

// endRestingOn ends the pages that may have been told what a store had that is gone.
func (h *host) endRestingOn(ref mirror.Ref) {
	switch {
	case ref.Kind == mirror.Page:
		h.pages.EndFor(ref.ID, item.Failed)
	case ref.Kind == mirror.Connection, len(ref.ID) > 2 && ref.ID[:2] == "g:":
		connection := ref.ID
		if ref.Kind == mirror.User {
			connection = ref.ID[2:]
		}
		for _, s := range h.hub.Connection(connection) {
			h.pages.EndFor(s.Page(), item.Failed)
		}
	case len(ref.ID) > 2:
		for _, s := range h.hub.User(ref.ID[2:]) {
			h.pages.EndFor(s.Page(), item.Failed)
		}
	}
}

// endLost ends what rests on stores of which the log has nothing at all, though it should.
func (h *host) endLost(found *durable.Recovered) {
	look := func(kind mirror.Kind, id string) {
		ref := mirror.Ref{Kind: kind, ID: id}
		if key := storeKey(ref); found.Lost(key) {
			h.giveUp(key, errNotWhole)
			h.endRestingOn(ref)
		}
	}
	for _, s := range h.hub.Sessions() {
		look(mirror.Page, s.Page())
	}
	for _, c := range h.identity.Connections() {
		look(mirror.Connection, c.ID)
		look(mirror.User, ownerOf("", c.ID))
	}
	for _, u := range h.identity.Users() {
		look(mirror.User, ownerOf(u.Name, ""))
	}
}

// recoverGlobal takes back the global store.
func (h *host) recoverGlobal() {
	var all [][]byte
	for _, i := range h.kept.found.Items {
		if i.Kind == kindGlobal {
			all = append(all, i.Base)
		}
	}
	n, err := h.global.Load(all)
	if err != nil {
		h.log.Error("parts of the global store of before", "error", err)
	}
	for _, k := range h.kept.found.Damaged {
		if k.Kind == kindGlobal {
			h.log.Error("a value of the global store of before is damaged, and gone", "path", k.ID)
		}
	}
	if n > 0 {
		h.log.Info("the global store of before is there again", "values", n)
	}
}
