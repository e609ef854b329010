package push

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Hub keeps the sessions of a host. Its methods may be called from any goroutine.
type Hub struct {
	opts    Options
	handler Handler
	wheel   wheel
	count   counters

	// newEpoch names a stream. The golden vectors put one of their own here.
	newEpoch func() uint64

	mu          sync.RWMutex // guards the rest, and owner and lists of each session; taken alone
	pages       map[string]*Session
	users       map[string]*Session // the first of a list
	connections map[string]*Session
	leaving     map[string]*Session // of pages that have ended; nil: there are none
	fresh       []*Session          // the pages made last, a ring: those unclaimed are among them
	oldest      int                 // in it
	announced   int64               // ms; the window that clients were told last, when it is not the usual one
	closed      bool

	clearing sync.Mutex // held by who makes room among all pages
}

// New makes a hub without sessions. [Hub.Close] must be called.
func New(o Options, h Handler) *Hub {
	hub := &Hub{
		opts: o.withDefaults(), handler: h,
		pages: map[string]*Session{}, users: map[string]*Session{}, connections: map[string]*Session{},
		newEpoch: func() uint64 { return max(1, rand.Uint64()) },
	}
	hub.wheel.init(hub.opts.Clock)
	return hub
}

// Open makes the session of a new page. A client that never comes lets it end soon.
func (h *Hub) Open(page string, owner Owner) (*Session, error) {
	if page == "" || len(page) > maxName {
		return nil, fmt.Errorf("a page id of %d bytes: must be from 1 to %d", len(page), maxName)
	}
	s := &Session{hub: h, page: page, owner: owner, epoch: h.newEpoch(), left: h.wheel.clock()}
	h.makeRoom(owner)
	unclaimed, err := h.enter(s)
	if err != nil {
		return nil, err
	}
	h.opts.Touched(page)
	if unclaimed != nil {
		unclaimed.expire()
	}
	s.mu.Lock()
	s.planLocked(s.left + ticks(s.lifeLocked()))
	s.mu.Unlock()
	return s, nil
}

// lifeLocked is how long the page lives without a client.
func (s *Session) lifeLocked() time.Duration {
	if !s.claimedLocked() {
		return s.hub.opts.Unclaimed
	}
	return s.hub.opts.Away
}

// claimedLocked reports whether the page's client has come once.
func (s *Session) claimedLocked() bool { return s.client != "" || s.claimed }

// Touch says that a request of the page's client has come, or that the application holds
// the page for alive: a page without a connection lives on from now.
func (s *Session) Touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.claimed {
		s.claimed = true
		s.hub.opts.Touched(s.page)
	}
	if s.attached == nil {
		s.left = s.hub.wheel.clock()
	}
}

// Seen is when the client was last heard of.
func (s *Session) Seen() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hub.wheel.wall(max(s.heard, s.left))
}

// Claimed reports whether the page's client has come once.
func (s *Session) Claimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimedLocked()
}

// enter gives a session its places, and another one that must leave, if its client never
// came: pages that nobody looks at, as robots ask for, take a bounded room.
func (h *Hub) enter(s *Session) (leaves *Session, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrStopping
	}
	if _, there := h.pages[s.page]; there {
		return nil, ErrExists
	}
	h.pages[s.page] = s
	h.linkLocked(s)
	if len(h.fresh) < h.opts.NewPages {
		s.place = len(h.fresh)
		h.fresh = append(h.fresh, s)
		return nil, nil
	}
	s.place = h.oldest
	h.oldest = (h.oldest + 1) % len(h.fresh)
	leaves, h.fresh[s.place] = h.fresh[s.place], s
	return leaves, nil
}

// expire ends the page unless its client has come.
func (s *Session) expire() {
	s.mu.Lock()
	leave := !s.ended && !s.frozen && !s.claimedLocked()
	if leave {
		s.endLocked(CodeEvicted, WhyFull)
		s.hub.count.expired.Add(1)
	}
	s.mu.Unlock()
	if leave {
		s.hub.forget(s)
		s.tell()
	}
}

// linkLocked puts the session into the lists of its owner.
func (h *Hub) linkLocked(s *Session) {
	if s.owner.User != "" {
		if s.userNext = h.users[s.owner.User]; s.userNext != nil {
			s.userNext.userPrev = s
		}
		h.users[s.owner.User] = s
	}
	if s.owner.Connection != "" {
		if s.connNext = h.connections[s.owner.Connection]; s.connNext != nil {
			s.connNext.connPrev = s
		}
		h.connections[s.owner.Connection] = s
	}
}

func (h *Hub) unlinkLocked(s *Session) {
	if s.userNext != nil {
		s.userNext.userPrev = s.userPrev
	}
	if s.userPrev != nil {
		s.userPrev.userNext = s.userNext
	} else if h.users[s.owner.User] == s {
		if s.userNext == nil {
			delete(h.users, s.owner.User)
		} else {
			h.users[s.owner.User] = s.userNext
		}
	}
	if s.connNext != nil {
		s.connNext.connPrev = s.connPrev
	}
	if s.connPrev != nil {
		s.connPrev.connNext = s.connNext
	} else if h.connections[s.owner.Connection] == s {
		if s.connNext == nil {
			delete(h.connections, s.owner.Connection)
		} else {
			h.connections[s.owner.Connection] = s.connNext
		}
	}
	s.userNext, s.userPrev, s.connNext, s.connPrev = nil, nil, nil, nil
}

// forget takes an ended session out.
func (h *Hub) forget(s *Session) {
	h.mu.Lock()
	if h.pages[s.page] == s {
		delete(h.pages, s.page)
		h.unlinkLocked(s)
		if h.fresh[s.place] == s {
			h.fresh[s.place] = nil
		}
	}
	h.mu.Unlock()
	h.wheel.remove(s)
	h.opts.Touched(s.page)
}

// Relabel gives a page to another user: its connection has logged in or out.
func (h *Hub) Relabel(s *Session, owner Owner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pages[s.page] != s {
		return
	}
	h.unlinkLocked(s)
	s.owner = owner
	h.linkLocked(s)
	h.opts.Touched(s.page)
}

// Page gives the session of a page; nil: there is none.
func (h *Hub) Page(page string) *Session {
	page = h.opts.Base(page)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.pages[page]
}

// User gives the sessions of all pages of a user.
func (h *Hub) User(user string) []*Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var all []*Session
	for s := h.users[user]; s != nil; s = s.userNext {
		all = append(all, s)
	}
	return all
}

// Connection gives the sessions of all pages of a connection.
func (h *Hub) Connection(connection string) []*Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var all []*Session
	for s := h.connections[connection]; s != nil; s = s.connNext {
		all = append(all, s)
	}
	return all
}

// Has reports whether a connection has pages.
func (h *Hub) Has(connection string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.connections[connection] != nil
}

// Count is how many there are.
func (h *Hub) Count() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.pages)
}

// CountOf is how many there are of a connection, or of a user where none is named.
func (h *Hub) CountOf(owner Owner) (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if owner.Connection != "" {
		for s := h.connections[owner.Connection]; s != nil; s = s.connNext {
			n++
		}
		return n
	}
	for s := h.users[owner.User]; s != nil; s = s.userNext {
		n++
	}
	return n
}

// Sessions gives all there are.
func (h *Hub) Sessions() []*Session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]*Session, 0, len(h.pages))
	for _, s := range h.pages {
		all = append(all, s)
	}
	return all
}

// Sent counts the sessions that a payload reached.
type Sent struct {
	Pages     int `json:"pages"`     // to which it goes
	Connected int `json:"connected"` // of them: those whose client is there now
}

// Push sends a payload to these sessions, whose frames share its bytes. Sessions that
// have ended meanwhile do not count. Many are shared out among the processors: the system
// call that hands a frame to the kernel is most of the work. Push returns when all have
// it, so that what a caller pushes next comes behind it everywhere.
func Push(p Payload, to []*Session) Sent {
	parts := min(runtime.GOMAXPROCS(0), len(to)/perProcessor)
	if parts < 2 {
		return pushOn(p, to)
	}
	sums := make([]Sent, parts)
	var group sync.WaitGroup
	for i := range parts {
		part := to[i*len(to)/parts : (i+1)*len(to)/parts]
		group.Go(func() { sums[i] = pushOn(p, part) })
	}
	group.Wait()
	var out Sent
	for _, sum := range sums {
		out.Pages += sum.Pages
		out.Connected += sum.Connected
	}
	return out
}

// perProcessor is how many sessions are worth a goroutine.
const perProcessor = 100

func pushOn(p Payload, to []*Session) Sent {
	var out Sent
	for _, s := range to {
		if r, err := s.Push(p); err == nil {
			out.Pages++
			if r.Connected {
				out.Connected++
			}
		}
	}
	return out
}

// Attach connects a client to the session of its page. A page of another connection is
// as unknown as one that does not exist: its id alone opens nothing.
func (h *Hub) Attach(hello Hello, connection string, t Transport) (*Attachment, *Refusal) {
	return h.AttachIf(nil, hello, connection, t)
}

// AttachIf does so only if the client still is this connection's, which is asked in the
// moment in which it is attached. Nil: it is.
func (h *Hub) AttachIf(still func() bool, hello Hello, connection string, t Transport) (*Attachment, *Refusal) {
	s, refusal := h.find(hello.Page, connection)
	if refusal != nil {
		return nil, refusal
	}
	return s.attach(still, hello, t)
}

// AttachmentIf gives the connection that a batch of frames belongs to, if its client still
// is this connection's.
func (h *Hub) AttachmentIf(still func() bool, on On, connection string) (*Attachment, *Refusal) {
	s, refusal := h.find(on.Page, connection)
	if refusal != nil {
		return nil, refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case still != nil && !still():
		return nil, ErrStale
	case s.attached == nil || s.attached.id != on.ID:
		return nil, refuse(CodeStale, "the frames belong to connection %d of the page, which is over", on.ID)
	}
	return s.attached, nil
}

// ErrStale refuses who comes with the cookie of before a login or logout.
var ErrStale = refuse(CodeLogin, "the cookie is one of before a login")

// Knows refuses a page that is not this connection's.
func (h *Hub) Knows(page, connection string) *Refusal {
	_, refusal := h.find(page, connection)
	return refusal
}

// Bye ends the page because its tab was closed.
func (h *Hub) Bye(on On, connection string) *Refusal {
	s, refusal := h.find(on.Page, connection)
	if refusal != nil {
		return refusal
	}
	s.bye(nil, on.Client)
	return nil
}

func (h *Hub) find(page, connection string) (*Session, *Refusal) {
	page = h.opts.Base(page)
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := h.pages[page]
	switch {
	case h.closed:
		return nil, refuse(CodeRestart, "the host is stopping")
	case s == nil && h.leaving[page] != nil && h.leaving[page].owner.Connection == connection:
		return nil, refuse(CodeIdentity, "the page has ended: its user logged in or out")
	case s == nil:
		return nil, refuse(CodeGone, "there is no such page")
	case s.owner.Connection != connection:
		return nil, refuse(CodeGone, "the page belongs to another connection")
	}
	return s, nil
}

// Options are the hub's, with defaults.
func (h *Hub) Options() Options { return h.opts }

// window is the time, in milliseconds, in which clients come back: so long that those
// that are here now do not come faster than the rate.
func (h *Hub) window() int64 {
	h.mu.RLock()
	n, announced := len(h.pages), h.announced
	h.mu.RUnlock()
	w := max(h.opts.Window, time.Duration(n)*time.Second/time.Duration(h.opts.Rate))
	return max(min(w, maxWindow).Milliseconds(), announced)
}

const maxWindow = 30 * time.Second

// Announce tells all clients, also those that connect later, to spread their coming back
// over at least this time: before a stop, or when this host is under pressure.
func (h *Hub) Announce(window time.Duration) {
	h.mu.Lock()
	h.announced = min(window, maxWindow).Milliseconds()
	h.mu.Unlock()
	frame := windowFrame(h.window())
	now := h.wheel.clock()
	for _, s := range h.Sessions() {
		s.mu.Lock()
		if s.attached != nil {
			s.transmitLocked(frame, now)
		}
		s.mu.Unlock()
		s.tell()
	}
}

// Detach lets all clients go and takes no new ones; the window spreads their coming
// back. Sessions stay: what is pushed now waits in their tails.
func (h *Hub) Detach(code Code) {
	h.mu.Lock()
	h.closed = true
	leaving := slices.Collect(maps.Values(h.leaving))
	h.mu.Unlock()
	for _, s := range leaving {
		s.endLeaving()
	}
	for s := range slices.Values(h.Sessions()) {
		s.Detach(code)
	}
}

// Close ends the hub: clients are let go, timers stop. Sessions that were not saved are
// gone.
func (h *Hub) Close() {
	h.Detach(CodeRestart)
	h.wheel.stop()
}

// counters of a hub.
type counters struct {
	opened, resumed, anewTail, anewEpoch, anewClient atomic.Uint64
	slow, silent, lost, refused                      atomic.Uint64
	trimmed, received, ended, expired                atomic.Uint64
}

func (c *counters) attached(o Opening) {
	c.opened.Add(1)
	switch {
	case o.Resumed && !o.First:
		c.resumed.Add(1)
	case o.Why == WhyTail:
		c.anewTail.Add(1)
	case o.Why == WhyEpoch:
		c.anewEpoch.Add(1)
	case o.Why == WhyClient:
		c.anewClient.Add(1)
	}
}

func (c *counters) detached(code Code) {
	if code == 0 {
		c.lost.Add(1)
	}
}

// HubStatus is a hub, as operators see it.
type HubStatus struct {
	Pages     int    `json:"pages"`
	Connected int    `json:"connected"`
	Users     int    `json:"users"`
	TailBytes int    `json:"tail_bytes"`
	Window    int64  `json:"window_ms"`
	Opened    uint64 `json:"opened"` // connections of clients, ever
	Resumed   uint64 `json:"resumed"`
	Anew      Anew   `json:"anew"`
	Slow      uint64 `json:"slow"`    // cut: they did not read
	Silent    uint64 `json:"silent"`  // cut: no sign of life
	Lost      uint64 `json:"lost"`    // connections that broke
	Refused   uint64 `json:"refused"` // frames against the protocol
	Trimmed   uint64 `json:"trimmed"` // frames that passed the limits of a tail
	Received  uint64 `json:"received"`
	Ended     uint64 `json:"ended"`
	Expired   uint64 `json:"expired"`
}

// Anew counts, by reason, the clients that could not resume.
type Anew struct {
	Tail   uint64 `json:"tail"`
	Epoch  uint64 `json:"epoch"`
	Client uint64 `json:"client"`
}

// Status tells how the hub is now.
func (h *Hub) Status() HubStatus {
	c := &h.count
	out := HubStatus{
		Window: h.window(), Opened: c.opened.Load(), Resumed: c.resumed.Load(),
		Anew: Anew{c.anewTail.Load(), c.anewEpoch.Load(), c.anewClient.Load()},
		Slow: c.slow.Load(), Silent: c.silent.Load(), Lost: c.lost.Load(), Refused: c.refused.Load(),
		Trimmed: c.trimmed.Load(), Received: c.received.Load(), Ended: c.ended.Load(), Expired: c.expired.Load(),
	}
	all := h.Sessions()
	out.Pages = len(all)
	for _, s := range all {
		s.mu.Lock()
		if s.attached != nil {
			out.Connected++
		}
		out.TailBytes += s.tail.bytes
		s.mu.Unlock()
	}
	h.mu.RLock()
	out.Users = len(h.users)
	h.mu.RUnlock()
	return out
}
