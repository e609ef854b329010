package push

import "time"

// leaving is a session whose page has ended by a request of its own client, as a logout is.
// The reply is still on its way, and the cookies that it sets: only then is the client told
// of the end. Nothing else reaches it, and nothing that it sends is done.
type leaving struct {
	code  Code
	until tick
	away  bool // nothing is to come: it is only known what its client will be told
}

// moment is for a client that has just fetched what its reply set, to give the reply away.
const moment tick = 2

// Await lets the page's client come back with the cookie of before, for this time or until
// it has fetched the new one: its own request has replaced it, and the reply says how to get
// it. Who else has the old cookie does not know the client's instance.
func (s *Session) Await(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaits = s.hub.wheel.clock() + ticks(within)
}

// awaitedLocked reports whether a client that comes with the cookie of before is the one whose
// request has replaced it.
func (s *Session) awaitedLocked(client string) bool {
	return client != "" && client == s.client && s.hub.wheel.clock() < s.awaits
}

// Leave ends the page, but lets its client have the replies to what it has asked already. It
// is told of the end when it has fetched the cookies that they set, or after this time.
func (s *Session) Leave(code Code, within time.Duration) {
	s.mu.Lock()
	if s.ended || s.frozen {
		s.mu.Unlock()
		return
	}
	waits := s.attached != nil && s.calls != nil && len(s.calls.running) > 0
	if waits {
		s.awaits = s.hub.wheel.clock() + ticks(within)
		s.leaving = &leaving{code: code, until: s.awaits}
		s.overLocked(code, code.Name())
	} else {
		s.endLocked(code, code.Name())
	}
	s.mu.Unlock()
	s.hub.forget(s)
	if waits {
		s.hub.keepLeaving(s)
		s.mu.Lock()
		s.planLeavingLocked()
		s.mu.Unlock()
	}
	s.tell()
}

// EndAway ends the page, and lets its client know the code when it comes back with the cookie
// of now: a connected one is told to do so, unless now is that code already. For a while:
// then there is no such page.
func (s *Session) EndAway(now, code Code, within time.Duration) {
	s.mu.Lock()
	if s.ended || s.frozen {
		s.mu.Unlock()
		return
	}
	knows := !s.claimedLocked() || s.attached != nil && now == code
	s.detachLocked(now)
	s.endLocked(code, code.Name())
	if !knows {
		s.leaving = &leaving{code: code, until: s.hub.wheel.clock() + ticks(within), away: true}
	}
	s.mu.Unlock()
	s.hub.forget(s)
	if !knows {
		s.hub.keepLeaving(s)
		s.mu.Lock()
		s.planLeavingLocked()
		s.mu.Unlock()
	}
	s.tell()
}

// Fetched says that the client has the cookies of a reply.
func (s *Session) Fetched() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetching = max(0, s.fetching-1)
	if s.fetching == 0 && s.leaving == nil {
		s.awaits = 0
	}
	s.planLeavingLocked()
}

// Leaving reports whether the page has ended, and its client not yet.
func (s *Session) Leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving != nil
}

// planLeavingLocked plans the end of a session that leaves: soon, if nothing more is to come.
func (s *Session) planLeavingLocked() {
	if s.leaving == nil {
		return
	}
	due := s.leaving.until
	if !s.leaving.away && s.fetching == 0 && (s.calls == nil || len(s.calls.running) == 0) {
		due = min(due, s.hub.wheel.clock()+moment)
	}
	s.leaving.until = due
	s.hub.wheel.set(s, due)
}

// leave ends the session when its time has come.
func (s *Session) leave(now tick) {
	s.mu.Lock()
	over := now >= s.leaving.until
	if !over {
		s.planLeavingLocked()
	}
	s.mu.Unlock()
	if over {
		s.endLeaving()
	}
}

// endLeaving tells the client.
func (s *Session) endLeaving() {
	s.mu.Lock()
	s.detachLocked(s.leaving.code)
	s.mu.Unlock()
	s.hub.forgetLeaving(s)
}

// keepLeaving keeps a session, of a page that is forgotten, for its client alone.
func (h *Hub) keepLeaving(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leaving == nil {
		h.leaving = map[string]*Session{}
	}
	h.leaving[s.page] = s
}

func (h *Hub) forgetLeaving(s *Session) {
	h.mu.Lock()
	if h.leaving[s.page] == s {
		delete(h.leaving, s.page)
	}
	h.mu.Unlock()
	h.wheel.remove(s)
}

// Client gives the session of a page for its client: also one that leaves.
func (h *Hub) Client(page string) *Session {
	page = h.opts.Base(page)
	h.mu.RLock()
	defer h.mu.RUnlock()
	if s := h.pages[page]; s != nil {
		return s
	}
	return h.leaving[page]
}

// AttachAwaited connects a client that comes with the cookie of before to the page whose own
// request has replaced it.
func (h *Hub) AttachAwaited(hello Hello, t Transport) (*Attachment, *Refusal) {
	s := h.Client(hello.Page)
	if s == nil {
		return nil, ErrStale
	}
	return s.attach(func() bool { return s.awaitedLocked(hello.Client) }, hello, t)
}

// AttachmentLeaving gives the connection of a session that leaves, to which it makes no
// difference with which cookie frames come: none of them does anything.
func (h *Hub) AttachmentLeaving(on On) (*Attachment, *Refusal) {
	s := h.Client(on.Page)
	if s == nil {
		return nil, ErrStale
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == nil || s.attached == nil || s.attached.id != on.ID {
		return nil, ErrStale
	}
	return s.attached, nil
}
