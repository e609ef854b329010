package push

import (
	"encoding/binary"
	"encoding/hex"
)

// Attachment is a client's connection to its session. Receive and Lost are the
// transport's to call.
type Attachment struct {
	session   *Session
	transport Transport
	id        uint32
}

// Session is what the connection is attached to.
func (a *Attachment) Session() *Session { return a.session }

// attach makes t the session's transport and sends the host's hello and all that the
// client has missed. Whether it resumes is decided before anything is sent, and nothing
// can come between, because all of it happens under the lock.
func (s *Session) attach(still func() bool, hello Hello, t Transport) (*Attachment, *Refusal) {
	s.mu.Lock()
	if still != nil && !still() {
		s.mu.Unlock()
		return nil, ErrStale
	}
	a, refusal := s.attachLocked(hello, t)
	s.mu.Unlock()
	s.tell()
	return a, refusal
}

func (s *Session) attachLocked(hello Hello, t Transport) (*Attachment, *Refusal) {
	now := s.hub.wheel.clock()
	switch {
	case s.ended && s.leaving == nil:
		return nil, refuse(CodeGone, "the page has ended")
	case s.frozen:
		return nil, refuse(CodeRestart, "the host is stopping")
	case s.client != "" && s.client != hello.Client && s.attached != nil:
		return nil, refuse(CodeDuplicate, "another client speaks for this page: the tab was duplicated")
	}
	if s.attached != nil {
		s.detachLocked(CodeReplaced)
	}
	s.trimLocked(now)
	o := s.resumeLocked(hello)
	s.attaches++
	a := &Attachment{session: s, transport: t, id: s.attaches}
	s.attached, s.heard, s.left = a, now, 0
	s.hub.opts.Touched(s.page)
	s.told = s.got
	o.First = s.attaches == 1
	if s.leaving == nil {
		s.events = append(s.events, event{kind: eventOpened, opening: o})
	}
	s.hub.count.attached(o)

	opts := &s.hub.opts
	at := s.last
	if o.Resumed {
		at = hello.At
	}
	s.transmitLocked(greeting{
		ID: a.id, Epoch: epochText(s.epoch), At: at, Resumed: o.Resumed, Why: o.Why, Kept: o.Kept, Got: s.got,
		Beat: opts.Beat.Milliseconds(), Window: s.hub.window(), Max: opts.Message,
	}.frame(), now)
	b := buffers.Get().(*[]byte)
	for i := int(at - s.base); i < len(s.tail.entries) && s.attached == a; i++ {
		*b = appendNumbered((*b)[:0], s.base+uint64(i)+1, s.tail.entries[i].Payload)
		s.transmitLocked(*b, now)
	}
	giveBack(b)
	s.planLocked(now + ticks(opts.Beat))
	return a, nil
}

// resumeLocked decides whether the client goes on where it was, and if not, makes the
// session begin anew for it. It answers no only for the reasons of the protocol.
func (s *Session) resumeLocked(h Hello) Opening {
	known := h.Epoch == epochText(s.epoch)
	switch {
	case s.client == "":
		// Nobody was there before: what the page was sent since it was made is all there
		// is. A client that comes with a position knew a stream that is lost.
		s.client, s.instance = h.Client, s.instance+1
		if h.Epoch == "" && s.base == 0 {
			return Opening{Resumed: true}
		}
		if h.Epoch == "" {
			return s.anewLocked(WhyTail)
		}
		return s.anewLocked(WhyEpoch)
	case s.client != h.Client:
		s.client, s.instance = h.Client, s.instance+1
		s.got, s.calls = 0, nil
		return s.anewLocked(WhyClient)
	case h.Epoch == "" && s.acked == 0 && s.base == 0:
		// Its first connection was lost before the host's hello came.
		return Opening{Resumed: true}
	case h.Epoch == "":
		return s.anewLocked(WhyTail)
	case !known && s.known != nil && h.Epoch == epochText(s.before):
		// The host was killed, and what the client's messages have done is known all the same.
		o := s.anewLocked(WhyEpoch)
		o.Kept = true
		return o
	case !known, h.At > s.last:
		// It knew another stream, or has more than was ever sent: then this stream is an
		// older copy of its own, and gets another name. What it asked before is lost.
		s.epoch, s.instance, s.calls = s.hub.newEpoch(), s.instance+1, nil
		return s.anewLocked(WhyEpoch)
	case h.At < s.base:
		return s.anewLocked(WhyTail)
	}
	_ = s.ackLocked(h.At) // not beyond last, as was just seen
	return Opening{Resumed: true}
}

// anewLocked gives up what the client has not got: a snapshot takes its place, never a
// part of it.
func (s *Session) anewLocked(why Why) Opening {
	s.tail = tail{}
	s.base, s.acked = s.last, s.last
	if s.calls != nil {
		s.calls.withheld()
	}
	s.failWaitersLocked(ErrLost)
	return Opening{Why: why}
}

// detachLocked lets the client's connection go; code 0: it is gone already.
func (s *Session) detachLocked(code Code) {
	a := s.attached
	if a == nil {
		return
	}
	s.attached = nil
	s.left = s.hub.wheel.clock()
	a.transport.Close(code)
	s.hub.count.detached(code)
	s.planLocked(s.left + ticks(s.hub.opts.Away))
	if s.leaving == nil {
		s.events = append(s.events, event{kind: eventAway})
	}
}

// Lost says that the connection is gone.
func (a *Attachment) Lost() { a.leave(0) }

// leave lets this connection go, if it is still the session's.
func (a *Attachment) leave(code Code) {
	s := a.session
	s.mu.Lock()
	if s.attached == a {
		s.detachLocked(code)
	}
	s.mu.Unlock()
	s.tell()
}

// Detach ends the client's connection; by the code it comes back or not.
func (s *Session) Detach(code Code) {
	s.mu.Lock()
	s.detachLocked(code)
	s.mu.Unlock()
	s.tell()
}

// epochText is how an epoch is written. Clients only compare it.
func epochText(e uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], e)
	return hex.EncodeToString(b[:])
}
