package push

import (
	"context"
	"slices"
	"sync"
)

// Owner is whose a page is. A connection (one browser) sees its own pages only.
type Owner struct {
	User       string
	Connection string
}

// Session is the channel to the client of one page. It lives while the page lives,
// whether a client is connected or not. Its methods may be called from any goroutine;
// none waits for the client but Wait.
type Session struct {
	hub  *Hub
	page string

	// The registry's, guarded by Hub.mu.
	owner              Owner
	userNext, userPrev *Session
	connNext, connPrev *Session
	place              int // in Hub.fresh

	// The wheel's, guarded by wheel.mu.
	next, prev *Session
	due        tick

	mu       sync.Mutex // guards the rest; held while a frame is handed to the transport
	epoch    uint64
	client   string // the instance of the page's client; empty: none came yet
	claimed  bool   // its client has come, though not to this session: by a request
	instance uint32
	attached *Attachment // nil: no client is connected
	attaches uint32
	ended    bool
	frozen   bool // it was saved: nothing may change

	last    uint64 // number of the last frame
	base    uint64 // the tail holds base+1 to last
	acked   uint64 // the client has all up to here
	tail    tail
	got     uint64   // the client's messages up to here are taken
	settled uint64   // and what those up to here have changed is real, of some at least
	known   *settled // of before a crash; nil: there was none
	before  uint64   // the epoch of before that crash
	told    uint64   // and it knows so up to here
	keeps   uint64   // they are kept once all up to this position is
	calls   *calls   // nil: no request is open, no reply kept

	waiters []waiter
	events  []event // for the handler
	telling bool    // somebody is in it
	waiting int     // bytes of messages in events

	wakeAt tick // when the wheel wakes it at the latest; 0: it does not
	heard  tick // the last sign of life of the client
	sent   tick // the last frame to it
	left   tick // since when there is no client

	value any
	why   string // it has ended

	leaving  *leaving // it has ended but for its client; nil: it has not, or altogether
	awaits   tick     // until when its client may come with the cookie of before; 0: it may not
	fetching int      // replies whose cookies its client has not fetched
}

// waiter waits for an acknowledgement.
type waiter struct {
	n    uint64
	done chan error
}

// Page is the page's id.
func (s *Session) Page() string { return s.page }

// Value is what SetValue put there: the host's page, for a Handler.
func (s *Session) Value() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value
}

// SetValue keeps something of the host's with the session.
func (s *Session) SetValue(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = v
}

// Owner tells whose the page is.
func (s *Session) Owner() Owner {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	return s.owner
}

// Pushed tells what became of a payload.
type Pushed struct {
	N         uint64 // its number; see [Session.Wait]
	Connected bool   // a client is there, and it is on its way; otherwise it waits in the tail
}

// Push sends a message or snapshot, or keeps it for a client that comes back in time.
func (s *Session) Push(p Payload) (Pushed, error) {
	out, err := s.Queue(p)
	if err == nil {
		s.tell()
	}
	return out, err
}

// Queue is Push under a lock of the caller's: no handler is told of anything that it leads to
// before somebody calls [Session.Tell], or does anything else with the session.
func (s *Session) Queue(p Payload) (Pushed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(); err != nil {
		return Pushed{}, err
	}
	return s.sendLocked(p), nil
}

// Waits reports whether there is something that the handler does not know yet.
func (s *Session) Waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events) > 0 && !s.telling
}

// Tell tells the handler what it does not know yet.
func (s *Session) Tell() { s.tell() }

func (s *Session) openLocked() error {
	switch {
	case s.ended:
		return ErrEnded
	case s.frozen:
		return ErrStopping
	}
	return nil
}

// sendLocked numbers a payload, keeps it and hands it to the transport.
func (s *Session) sendLocked(p Payload) Pushed {
	now := s.hub.wheel.clock()
	s.last++
	s.tail.add(p, now)
	s.trimLocked(now)
	if len(s.tail.entries) == 1 {
		s.planLocked(now + ticks(s.hub.opts.TailAge))
	}
	if s.attached != nil {
		b := buffers.Get().(*[]byte)
		*b = appendNumbered((*b)[:0], s.last, p)
		s.transmitLocked(*b, now)
		giveBack(b)
	}
	return Pushed{N: s.last, Connected: s.attached != nil}
}

// transmitLocked hands a frame to the transport, and lets a client go that does not read.
func (s *Session) transmitLocked(frame []byte, now tick) {
	waiting, err := s.attached.transport.Send(frame)
	s.sent = now
	switch {
	case err != nil:
		s.detachLocked(0)
	case waiting > s.hub.opts.Waiting:
		s.hub.count.slow.Add(1)
		s.detachLocked(CodeSlow)
	}
}

// trimLocked holds the tail to its limits. A connected client is not cut for it: it can
// only not resume any more, should its connection be lost now.
func (s *Session) trimLocked(now tick) {
	age := ticks(s.hub.opts.TailAge)
	var oldest tick
	if now > age {
		oldest = now - age
	}
	if n := s.tail.over(s.hub.opts.TailBytes, oldest); n > 0 {
		s.tail.drop(n)
		s.base += uint64(n)
		s.hub.count.trimmed.Add(uint64(n))
	}
}

// ackLocked takes the client's word that it has all frames up to n.
func (s *Session) ackLocked(n uint64) *Refusal {
	if n > s.last {
		return refuse(CodeProtocol, "the client acknowledges frame %d, and the last one is %d", n, s.last)
	}
	if n <= s.acked {
		return nil
	}
	s.acked = n
	if n > s.base {
		s.tail.drop(int(n - s.base))
		s.base = n
	}
	if s.calls != nil {
		s.calls.acked(n)
		s.dropCallsLocked()
	}
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		if w.n > n {
			return false
		}
		w.done <- nil
		return true
	})
	if len(s.waiters) == 0 {
		s.waiters = nil
	}
	return nil
}

// Wait waits until the client has acknowledged frame n. [ErrLost] says that it never
// will, [ErrEnded] that the page has ended.
func (s *Session) Wait(ctx context.Context, n uint64) error {
	s.mu.Lock()
	switch {
	case n <= s.acked:
		s.mu.Unlock()
		return nil
	case n > s.last:
		s.mu.Unlock()
		return ErrLost
	}
	if err := s.openLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	w := waiter{n, make(chan error, 1)}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters = slices.DeleteFunc(s.waiters, func(o waiter) bool { return o.done == w.done })
	return ctx.Err()
}

// failWaitersLocked ends all waits.
func (s *Session) failWaitersLocked(err error) {
	for _, w := range s.waiters {
		w.done <- err
	}
	s.waiters = nil
}

// End ends the page: a connected client is told why, and nothing is kept.
func (s *Session) End(why Code) { s.EndFor(why, why.Name()) }

// EndFor ends it for a reason that operators are told, see [Session.Why]. False: it had
// ended.
func (s *Session) EndFor(code Code, why string) bool {
	s.mu.Lock()
	if s.ended || s.frozen {
		s.mu.Unlock()
		return false
	}
	s.endLocked(code, why)
	s.mu.Unlock()
	s.hub.forget(s)
	s.tell()
	return true
}

// Why is the reason for which the page has ended.
func (s *Session) Why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Reasons that this package itself has; others are names of codes.
const (
	WhyExpired   = "expired"   // its client stayed away
	WhyUnclaimed = "unclaimed" // or never came
	WhyFull      = "full"      // there were as many as there may be
	WhyMemory    = "memory"    // it made room in memory
	WhyClosed    = "closed"    // its tab was closed
)

// Refuse ends the page because the application wants no such one: a connected client is
// told what it said.
func (s *Session) Refuse(said *ReplyError) {
	frame := refusedFrame(said)
	s.mu.Lock()
	if s.ended || s.frozen {
		s.mu.Unlock()
		return
	}
	if s.attached != nil {
		s.transmitLocked(frame, s.hub.wheel.clock())
	}
	s.endLocked(CodeRefused, CodeRefused.Name())
	s.mu.Unlock()
	s.hub.forget(s)
	s.tell()
}

func (s *Session) endLocked(why Code, reason string) {
	s.detachLocked(why)
	s.tail = tail{}
	s.calls = nil
	s.overLocked(why, reason)
}

// overLocked says so to all but the client.
func (s *Session) overLocked(why Code, reason string) {
	s.ended, s.why = true, reason
	s.failWaitersLocked(ErrEnded)
	s.events = append(s.events, event{kind: eventEnded, code: why})
	s.hub.count.ended.Add(1)
}

// Status is one session, as operators see it.
type Status struct {
	Page       string `json:"page"`
	User       string `json:"user,omitempty"`
	Connected  bool   `json:"connected"`
	Last       uint64 `json:"last"`
	Acked      uint64 `json:"acked"`
	Tail       int    `json:"tail"`       // frames
	TailBytes  int    `json:"tail_bytes"` // and their memory
	Got        uint64 `json:"got"`        // messages of the client
	Attached   uint32 `json:"attached"`   // times that a client connected
	Requests   int    `json:"requests"`   // open
	IdleMillis int64  `json:"idle_ms"`    // since the client's last sign of life
}

// Status tells how the session is now.
func (s *Session) Status() Status {
	owner := s.Owner()
	now := s.hub.wheel.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{
		Page: s.page, User: owner.User, Connected: s.attached != nil, Last: s.last, Acked: s.acked,
		Tail: len(s.tail.entries), TailBytes: s.tail.bytes, Got: s.got, Attached: s.attaches,
		IdleMillis: int64(now-max(s.heard, s.left)) * tickLength.Milliseconds(),
	}
	if s.calls != nil {
		out.Requests = len(s.calls.running)
	}
	return out
}

// Connected reports whether a client is there now.
func (s *Session) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attached != nil
}
