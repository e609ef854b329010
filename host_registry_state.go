package guado

import (
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/registry"
)

// weights are what the stores of items cost, as the index asks. Below phase 4 there are none.
type weights struct{ *host }

// objectCost is what the object of a page is held to cost in its worker: nobody can weigh it.
const objectCost = 4 << 10

// Bytes see [registry.Stores]. The worker is held to have all stores but those that it has let
// go, and the objects of pages beside them.
func (w weights) Bytes() (total, worker int64) {
	if !w.keeps() {
		return 0, 0
	}
	total = w.stores.mirror.Bytes()
	return total, total - w.stores.rests.bytes.Load() + w.pages.Objects()*objectCost
}

// Of see [registry.Stores]. A guest's user store is the connection's.
func (w weights) Of(kind item.Kind, id string) int64 {
	if !w.keeps() {
		return 0
	}
	switch kind {
	case item.User:
		return w.stores.mirror.StoreBytes(mirror.Ref{Kind: mirror.User, ID: ownerOf(id, "")})
	case item.Connection:
		return w.stores.mirror.StoreBytes(mirror.Ref{Kind: mirror.Connection, ID: id}) +
			w.stores.mirror.StoreBytes(mirror.Ref{Kind: mirror.User, ID: ownerOf("", id)})
	}
	return w.stores.mirror.StoreBytes(mirror.Ref{Kind: mirror.Page, ID: id})
}

// Rest see [registry.Stores].
func (w weights) Rest(page string) (freed int64) {
	if !w.keeps() {
		return 0
	}
	freed = w.stores.lets(page)
	if w.pages.Resident(page) {
		freed += objectCost
	}
	if freed == 0 {
		return 0
	}
	answered := w.stores.asks(page, freed)
	if !w.pages.Rest(page, answered) {
		answered()
		return 0
	}
	return freed
}

// weigh lets the index see to it that stores do not grow beyond their limits.
func (h *host) weigh() {
	c := &h.config.State
	h.registry.Keep(weights{h}, registry.Limits{Total: c.Total.Bytes(), Worker: c.Worker.Bytes()})
}

// storeLimit is what one store may cost.
func (h *host) storeLimit(kind mirror.Kind) int64 {
	c := &h.config.State
	switch kind {
	case mirror.User:
		return c.User.Bytes()
	case mirror.Connection:
		return c.Connection.Bytes()
	}
	return c.Page.Bytes()
}

func (h *host) largestStore() int64 {
	return max(h.storeLimit(mirror.Page), h.storeLimit(mirror.Connection), h.storeLimit(mirror.User))
}
