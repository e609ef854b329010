package guado

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/pages"
)

// stores is what the host knows of the stores of applications: its copy of them, and which
// worker has which. All configurations have it in common.
type stores struct {
	log    *slog.Logger
	mirror *mirror.Mirror
	limit  func(mirror.Kind) int64 // of the account of one store
	grown  func()                  // is told that there is more

	mu      sync.Mutex // guards all below, and what the links are sent of stores: memory only
	keepers map[*link.Link]*keeper
	owners  map[string]*keeper // whose worker has a user's stores
	moves   uint64
	writes  writes // of other groups
	rests   rests  // stores of pages that no worker has in its memory
	differ  differing
	shares  *shares
}

// keeper is the stores of one worker: it applies what the worker commits.
type keeper struct {
	stores *stores
	link   *link.Link
	source mirror.Source         // of the link's reader
	sent   map[mirror.Ref]uint64 // the number of the last RESTORE of it; guarded by stores.mu, as all below
	last   uint64                // RESTORE

	running map[string]int           // exchanges of a user that may still write
	idle    map[string]chan struct{} // closed when there are none any more
	ended   bool
}

// StoresStatus is how the stores of pages, connections and users are.
type StoresStatus struct {
	mirror.Status
	Moves uint64 `json:"moves"` // of users to another worker
	// Differing are the last differences between a worker's stores and the host's copy.
	Differing []Difference `json:"differing,omitempty"`
}

func (h *host) storesStatus() *StoresStatus {
	if !h.keeps() {
		return nil
	}
	s := h.stores
	s.mu.Lock()
	defer s.mu.Unlock()
	return &StoresStatus{s.mirror.Status(), s.moves, slices.Clone(s.differ.last)}
}

// openStores begins to keep stores, where the phase wants it.
func (h *host) openStores() {
	if h.config.Server.Phase < phaseStores || h.stores != nil {
		return
	}
	h.stores = &stores{
		log: h.log, mirror: mirror.New(0, mirror.Limits{Store: h.largestStore()}), limit: h.storeLimit, grown: h.registry.Grown,
		keepers: map[*link.Link]*keeper{}, owners: map[string]*keeper{},
	}
	h.calls.Handle("store.open", h.callStore)
	h.openRemoteStores()
	h.openRests()
	h.openShares()
	h.heldVerbs()
}

// keep makes the keeper of a worker's stores, and of its calls one that says when it ends.
func (s *stores) keep(l *link.Link, next link.Callee) link.Callee {
	k := &keeper{stores: s, link: l, sent: map[mirror.Ref]uint64{}, running: map[string]int{}, idle: map[string]chan struct{}{}}
	s.mu.Lock()
	s.keepers[l] = k
	s.mu.Unlock()
	l.Keep(k)
	return &keptCallee{next, k}
}

// keeps reports whether a link is that of a worker whose commits are applied here.
func (s *stores) keeps(l *link.Link) bool {
	if s == nil || l == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keepers[l] != nil
}

type keptCallee struct {
	link.Callee
	keeper *keeper
}

// End is told that nothing of the worker will come any more.
func (c *keptCallee) End() {
	s := c.keeper.stores
	s.mu.Lock()
	delete(s.keepers, c.keeper.link)
	c.keeper.ended = true
	for _, waits := range c.keeper.idle {
		close(waits)
	}
	clear(c.keeper.idle)
	s.mu.Unlock()
	c.Callee.End()
}

// State applies a commit of the worker.
func (k *keeper) State(_ uint32, state []byte, also any) (effects []byte, err error) {
	if mirrorLate {
		return k.applyLate(state), nil
	}
	k.source.Also = also
	effects, err = k.stores.mirror.ApplyFront(&k.source, state)
	k.source.Also = nil
	k.tellDifferences()
	switch {
	case err == nil:
		k.stores.grown()
		k.stores.shares.committed()
		return effects, nil
	case errors.Is(err, mirror.ErrStale):
		return effects, fmt.Errorf("%w: %w", link.ErrRefused, err)
	}
	return nil, link.Corrupt("a commit of stores: %w", err)
}

// ahead sends a worker what it must have before it gets a request: stores, where it has any.
func (h *host) ahead(l *link.Link, x *exchange.Exchange) (string, error) {
	if x.Who == nil || !h.keeps() {
		return "", nil
	}
	return h.stores.ahead(l, x)
}

// ownerOf names whose stores an exchange has; empty: nobody's.
func ownerOf(user, connection string) string {
	switch {
	case user != "":
		return "u:" + user
	case connection != "":
		return "g:" + connection
	}
	return ""
}

// moveWait is how long a user's requests wait until those that the worker of before has are
// through with the user's stores. What is still under way then is refused.
const moveWait = 5 * time.Second

// ahead sends a worker the stores of an exchange that it does not have. Where another worker
// has them it waits until that one is through.
func (s *stores) ahead(l *link.Link, x *exchange.Exchange) (owner string, err error) {
	who := x.Who
	if who == nil || who.Connection == "" || pages.Rests(x) {
		return "", nil
	}
	owner = ownerOf(who.User, who.Connection)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rests.used(who.Page)
	k := s.keepers[l]
	if k == nil {
		return "", nil // it has ended: the request will find that, too
	}
	if waits := k.before(owner); waits != nil {
		s.mu.Unlock()
		timer := time.NewTimer(moveWait)
		select {
		case <-waits:
		case <-timer.C:
		}
		timer.Stop()
		s.mu.Lock()
	}
	k.own(owner)
	k.running[owner]++
	refs := [...]mirror.Ref{{Kind: mirror.Page, ID: who.Page}, {Kind: mirror.Connection, ID: who.Connection}, {Kind: mirror.User, ID: owner}}
	for _, ref := range refs {
		if ref.ID != "" && err == nil {
			err = k.restore(owner, ref, ref.Kind == mirror.Page)
		}
	}
	return owner, err
}

// before is closed when the worker that has a user's stores is through with them; nil: there
// is nothing to wait for. Under stores.mu.
func (k *keeper) before(owner string) chan struct{} {
	o := k.stores.owners[owner]
	if o == nil || o == k || o.ended || o.running[owner] == 0 {
		return nil
	}
	if o.idle[owner] == nil {
		o.idle[owner] = make(chan struct{})
	}
	return o.idle[owner]
}

// behind is told that an exchange of a user does not write any more.
func (h *host) behind(l *link.Link, owner string) {
	s := h.stores
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keepers[l]; k != nil {
		k.through(owner)
	}
}

// through is told that something of a user that may write is over. Under stores.mu.
func (k *keeper) through(owner string) {
	if k.running[owner]--; k.running[owner] > 0 {
		return
	}
	delete(k.running, owner)
	if waits := k.idle[owner]; waits != nil {
		close(waits)
		delete(k.idle, owner)
	}
}

// own makes a user's stores this worker's: what another one that had them still says of them
// is refused from now on. Under stores.mu.
func (k *keeper) own(owner string) {
	s := k.stores
	before := s.owners[owner]
	if before == k {
		return
	}
	s.owners[owner] = k
	if before == nil {
		return
	}
	s.moves++
	s.mirror.Bump(owner)
	for _, ref := range s.mirror.Stores(owner) {
		for _, o := range s.keepers {
			delete(o.sent, ref)
		}
	}
}

// relabel gives the stores of a connection to who has logged in there.
func (s *stores) relabel(from, to, connection string, of pageOwners) {
	if s == nil {
		return
	}
	s.tell(s.mirror.Relabel(from, to, within(connection, of))...)
}

// pass gives them to another user, who leaves those of the user before alone.
func (s *stores) pass(from, to, connection string, of pageOwners) {
	if s != nil {
		s.mirror.Pass(from, to, within(connection, of))
	}
}

// within tells the stores of a connection and of its pages.
func within(connection string, of pageOwners) func(mirror.Ref) bool {
	return func(ref mirror.Ref) bool {
		switch ref.Kind {
		case mirror.Page:
			owner, ok := of.Owner(ref.ID)
			return ok && owner == connection
		case mirror.Connection:
			return ref.ID == connection
		}
		return false
	}
}

type pageOwners interface {
	Owner(page string) (connection string, ok bool)
}

// restore sends a store that the worker does not have; make: an empty one is made where
// there is none. Under stores.mu.
func (k *keeper) restore(owner string, ref mirror.Ref, make bool) error {
	if _, there := k.sent[ref]; there {
		return nil
	}
	m := k.stores.mirror
	if !make && !m.Has(ref) { // as a rule, of connections and users
		return nil
	}
	records, generation, err := m.Hand(ref)
	if errors.Is(err, mirror.ErrNoStore) {
		if !make {
			return nil
		}
		if err := m.Open(owner, ref); err != nil {
			return err
		}
		records, generation, err = m.Hand(ref)
	}
	if err != nil {
		return err
	}
	if err := k.link.Restore(restorePayload(owner, generation, ref, uint64(k.stores.limit(ref.Kind)), records)); err != nil {
		return err
	}
	k.last++
	k.sent[ref] = k.last
	s := k.stores
	s.rests.wake(ref)
	return nil
}

// restorePayload is the payload of RESTORE: protocol/link.md, section 14.
func restorePayload(owner string, generation uint64, ref mirror.Ref, limit uint64, records []byte) []byte {
	le := binary.LittleEndian
	p := make([]byte, 0, 24+len(owner)+len(ref.ID)+len(records))
	p = le.AppendUint64(le.AppendUint64(p, generation), limit)
	p = append(p, byte(ref.Kind), 0)
	p = le.AppendUint16(le.AppendUint16(p, uint16(len(owner))), uint16(len(ref.ID)))
	p = append(p, 0, 0)
	return append(append(append(p, owner...), ref.ID...), records...)
}

// endStores forgets the stores of an item that has ended.
func (h *host) endStores(e item.Ended) {
	switch e.Kind {
	case item.Page:
		h.stores.end(mirror.Ref{Kind: mirror.Page, ID: e.ID})
		// Its last turn may have come behind the end of whose it was, and made it known again.
		if owner := ownerOf(e.User, e.Connection); owner != "" && !h.knowsUser(owner) {
			h.stores.forget(owner)
		}
	case item.Connection:
		h.stores.end(mirror.Ref{Kind: mirror.Connection, ID: e.ID})
		h.stores.forget(ownerOf("", e.ID))
	case item.User:
		h.stores.forget(ownerOf(e.ID, ""))
	}
}

// forget ends the store of a user who is gone, and forgets the user.
func (s *stores) forget(owner string) {
	s.end(mirror.Ref{Kind: mirror.User, ID: owner})
	if s.mirror.Forget(owner) {
		s.mu.Lock()
		delete(s.owners, owner)
		s.mu.Unlock()
	}
}

// end forgets a store, here and in its worker.
func (s *stores) end(ref mirror.Ref) {
	if s != nil && s.mirror.Drop(ref) {
		s.tell(ref)
	}
}

// clear ends all stores.
func (s *stores) clear() {
	for _, ref := range s.mirror.Refs() {
		s.end(ref)
	}
	s.mu.Lock()
	clear(s.owners)
	s.mu.Unlock()
}

// tell lets workers forget stores.
func (s *stores) tell(ended ...mirror.Ref) {
	for _, ref := range ended {
		s.release(ref)
	}
	s.shares.committed()
}

func (s *stores) release(ref mirror.Ref) {
	payload := append(binary.LittleEndian.AppendUint16([]byte{byte(ref.Kind), 0}, uint16(len(ref.ID))), ref.ID...)
	var tell []*link.Link
	s.mu.Lock()
	s.rests.wake(ref)
	for l, k := range s.keepers {
		if _, there := k.sent[ref]; there {
			delete(k.sent, ref)
			tell = append(tell, l)
		}
	}
	s.mu.Unlock()
	for _, l := range tell {
		_ = l.Release(payload) // a link that has ended has forgotten it anyway
	}
}

// callStore gives a worker a store that it asks for.
func (h *host) callStore(_ context.Context, c calls.Caller, data []byte) (any, error) {
	var want struct {
		Kind mirror.Kind `json:"kind"`
		ID   string      `json:"id"`
	}
	if err := calls.Decode(data, &want); err != nil {
		return nil, err
	}
	ref := mirror.Ref{Kind: want.Kind, ID: want.ID}
	owner, err := h.storeOwner(ref)
	if err != nil {
		return nil, err
	}
	s := h.stores
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keepers[c.Link]
	if k == nil {
		return nil, calls.Errorf(409, "elsewhere", "stores of pages, connections and users are those of the group %s", h.now().config.StateGroup())
	}
	k.own(owner)
	return nil, k.restore(owner, ref, true)
}

// storeOwner says whose a store is.
func (h *host) storeOwner(ref mirror.Ref) (string, error) {
	switch ref.Kind {
	case mirror.Page:
		about, err := h.pages.Get(ref.ID)
		if err != nil {
			return "", pageError(err)
		}
		return ownerOf(about.User, about.Connection), nil
	case mirror.Connection:
		if c, ok := h.identity.Find(ref.ID); ok {
			return ownerOf(c.User, c.ID), nil
		}
		return "", calls.Errorf(404, "no_connection", "there is no connection %q", ref.ID)
	case mirror.User:
		if h.knowsUser(ref.ID) {
			return ref.ID, nil
		}
		return "", calls.Errorf(404, "no_user", "nobody is logged in as %q", ref.ID)
	}
	return "", calls.Errorf(400, "bad_call", "there are no stores of kind %d", ref.Kind)
}

// knowsUser reports whether somebody is the owner of that name.
func (h *host) knowsUser(owner string) bool {
	if len(owner) < 2 {
		return false
	}
	if kind, name := owner[:2], owner[2:]; kind == "u:" {
		_, there := h.identity.FindUser(name)
		return there || h.identity.Asked(name)
	} else if kind == "g:" {
		c, ok := h.identity.Find(name)
		return ok && c.User == ""
	}
	return false
}
