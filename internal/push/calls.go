package push

import (
	"math"
	"slices"
)

// calls are a client's requests that are being answered, and the replies that it has not
// acknowledged: a client that asks again gets the same one.
type calls struct {
	running []uint64 // few: a list costs less than a map
	waiting []uint64 // of those that are running: they begin after the start
	kept    []kept   // oldest first
	settled []kept   // of those that are running: they are kept already, and on their way
	bytes   int
}

type kept struct {
	id uint64 // of the request
	n  uint64 // of the frame that last carried the reply
	Payload
}

func (s *Session) callsLocked() *calls {
	if s.calls == nil {
		s.calls = &calls{}
	}
	return s.calls
}

// dropCallsLocked gives the memory back once nothing is open.
func (s *Session) dropCallsLocked() {
	if s.calls != nil && len(s.calls.running) == 0 && len(s.calls.kept) == 0 {
		s.calls = nil
	}
}

// ends takes a request off the list; false: it is not open.
func (c *calls) ends(id uint64) bool {
	i := slices.Index(c.running, id)
	if i < 0 {
		return false
	}
	c.running = slices.Delete(c.running, i, i+1)
	c.settled = slices.DeleteFunc(c.settled, func(k kept) bool { return k.id == id })
	return true
}

// keep keeps a reply, within most bytes.
func (c *calls) keep(id, n uint64, p Payload, most int) {
	c.kept = append(c.kept, kept{id, n, p})
	c.bytes += p.Len() + entryCost
	for c.bytes > most && len(c.kept) > 1 {
		c.bytes -= c.kept[0].Len() + entryCost
		c.kept = slices.Delete(c.kept, 0, 1)
	}
}

// acked forgets replies that the client has.
func (c *calls) acked(n uint64) {
	c.forget(func(k kept) bool { return k.n <= n })
}

// withheld notes that the client got none of the replies that are kept: they wait until
// it asks again, whatever it acknowledges meanwhile.
func (c *calls) withheld() {
	for i := range c.kept {
		c.kept[i].n = never
	}
}

// unasked forgets replies for which the client has not asked again: it does so before it
// sends anything new.
func (c *calls) unasked() {
	c.forget(func(k kept) bool { return k.n == never })
}

func (c *calls) forget(which func(k kept) bool) {
	c.kept = slices.DeleteFunc(c.kept, func(k kept) bool {
		if which(k) {
			c.bytes -= k.Len() + entryCost
			return true
		}
		return false
	})
}

// never is the number of a frame that no client acknowledges.
const never = math.MaxUint64

// Reply answers a request with JSON data.
func (s *Session) Reply(r Ref, data []byte) error { return s.ReplyWithCookies(r, data, "") }

// ReplyWithCookies answers a request whose answer sets cookies, which no frame can: the
// client fetches them over HTTP with this token, letters and digits, before it gives the
// reply away. See the option Cookies of the transport.
func (s *Session) ReplyWithCookies(r Ref, data []byte, token string) error {
	p, err := s.hub.replyPayload(r.ID, data, token)
	if err != nil {
		return err
	}
	return s.answer(r, p, token != "")
}

// Fail answers a request with an error.
func (s *Session) Fail(r Ref, e *ReplyError) error { return s.answer(r, errorPayload(r.ID, e), false) }

func (s *Session) answer(r Ref, p Payload, cookies bool) error {
	s.mu.Lock()
	if err := s.openLocked(); err != nil && s.leaving == nil {
		s.mu.Unlock()
		return err
	}
	if s.calls == nil || r.Instance != s.instance {
		s.mu.Unlock()
		return ErrNoCall
	}
	if !s.calls.ends(r.ID) {
		s.mu.Unlock()
		return ErrNoCall
	}
	s.replyLocked(r.ID, p)
	if cookies {
		s.fetching++
	}
	s.planLeavingLocked()
	s.mu.Unlock()
	s.tell()
	return nil
}

// replyLocked sends a reply and keeps it until the client has it.
func (s *Session) replyLocked(id uint64, p Payload) {
	out := s.sendLocked(p)
	s.told = max(s.told, id) // the reply says that the request came
	s.callsLocked().keep(id, out.N, p, s.hub.opts.Replies)
}

// refuseMessage answers a message that the handler did not take. A message that is no
// request is answered only then.
func (s *Session) refuseMessage(m Message, e *ReplyError) {
	if m.Request {
		// An error says that it was answered meanwhile, or that nobody waits.
		_ = s.Fail(m.Ref, e)
		return
	}
	s.mu.Lock()
	if s.openLocked() == nil && m.Instance == s.instance {
		s.replyLocked(m.ID, errorPayload(m.ID, e))
	}
	s.mu.Unlock()
	s.tell()
}

// againLocked answers a request that the client repeats: it started anew from a snapshot
// and wants to know what became of it.
func (s *Session) againLocked(id uint64) {
	if s.calls != nil {
		if slices.Contains(s.calls.running, id) {
			return
		}
		for i, k := range s.calls.kept {
			if k.id != id {
				continue
			}
			if k.n == never || k.n <= s.base { // not in the tail: it goes out once more
				s.calls.kept[i].n = s.sendLocked(k.Payload).N
			}
			return
		}
	}
	if s.known.lost(id) {
		s.sendLocked(errorPayload(id, &ReplyError{Code: ReplyLost, Message: "the host was killed meanwhile"}))
		return
	}
	s.sendLocked(errorPayload(id, &ReplyError{Code: ReplyUnknown, Message: "the reply is no longer kept"}))
}
