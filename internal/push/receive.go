package push

// mostUntold is how many messages of a client may be taken before it is told at once. A
// few wait for the wheel, so that most need no frame of their own: a reply tells, too.
const mostUntold = 32

// Receive takes one frame of the client. The refusal, when there is one, has ended the
// connection already. Frames of a connection that was replaced are dropped: the client
// sends on the new one what the host's hello did not count.
func (a *Attachment) Receive(p []byte) *Refusal {
	s := a.session
	f, err := decode(p)
	refusal := (*Refusal)(nil)
	switch {
	case err != nil:
		refusal = &Refusal{CodeProtocol, err}
	case len(f.data) > s.hub.opts.Message:
		refusal = refuse(CodeTooBig, "a message of %d bytes, over the limit of %d", len(f.data), s.hub.opts.Message)
	case f.typ == "hello":
		refusal = refuse(CodeProtocol, "%w: a second hello", errMalformed)
	}
	if refusal == nil && f.typ == "bye" {
		s.bye(a, f.client)
		return nil
	}
	s.mu.Lock()
	if s.attached != a {
		s.mu.Unlock()
		return nil
	}
	if refusal == nil {
		refusal = s.takeLocked(&f)
	}
	if refusal != nil {
		s.hub.count.refused.Add(1)
		s.detachLocked(refusal.Code)
	}
	s.planLeavingLocked()
	s.mu.Unlock()
	s.tell()
	return refusal
}

func (s *Session) takeLocked(f *frame) *Refusal {
	now := s.hub.wheel.clock()
	s.heard = now
	if f.hasAck {
		if r := s.ackLocked(f.ack); r != nil {
			return r
		}
	}
	if f.probe && s.attached != nil {
		s.transmitLocked(probeFrame, now)
	}
	if f.id == 0 {
		return nil
	}
	switch {
	case f.id > s.got+1:
		return refuse(CodeProtocol, "message %d came after %d", f.id, s.got)
	case f.id <= s.got:
		if f.request {
			s.againLocked(f.id)
		} else {
			s.toldLaterLocked(now)
		}
		return nil
	}
	s.got = f.id
	s.hub.opts.Touched(s.page)
	s.keeps = s.hub.opts.Position()
	if s.calls != nil {
		s.calls.unasked()
		s.dropCallsLocked()
	}
	s.hub.count.received.Add(1)
	ref := Ref{s.instance, f.id}
	switch {
	case f.cancel != 0:
		s.cancelLocked(f.cancel)
	case s.leaving != nil:
		s.replyLocked(f.id, errorPayload(f.id, &ReplyError{Code: ReplyIdentity, Message: "the user has logged in or out meanwhile"}))
		return nil
	case f.request && s.calls != nil && len(s.calls.running) >= s.hub.opts.Calls, len(s.events) >= mostEvents,
		s.waiting > 0 && s.waiting+len(f.data) > s.hub.opts.Waiting:
		s.replyLocked(f.id, errorPayload(f.id, &ReplyError{Code: ReplyBusy, Message: "too many messages wait"}))
		return nil
	default:
		if f.request {
			c := s.callsLocked()
			c.running = append(c.running, f.id)
		}
		data := append([]byte(nil), f.data...)
		s.waiting += len(data)
		s.events = append(s.events, event{kind: eventMessage, message: Message{ref, f.request, f.write, f.to, data}})
	}
	if !f.request {
		s.toldLaterLocked(now)
	}
	return nil
}

// cancelLocked tells the handler that nobody waits for a reply any more. One that comes
// all the same is refused.
func (s *Session) cancelLocked(id uint64) {
	if s.calls == nil {
		return
	}
	if s.calls.ends(id) {
		s.dropCallsLocked()
		if s.leaving == nil {
			s.events = append(s.events, event{kind: eventCancelled, message: Message{Ref: Ref{s.instance, id}}})
		}
	}
}

// toldLaterLocked sees to it that the client learns what was taken.
func (s *Session) toldLaterLocked(now tick) {
	if s.got-min(s.told, s.got) >= mostUntold {
		s.tellGotLocked(now)
		return
	}
	s.told = min(s.told, s.got-1)
	s.planLocked(now + 1)
}

func (s *Session) tellGotLocked(now tick) {
	if s.attached == nil || s.told >= s.got {
		return
	}
	if s.telling || len(s.events) > 0 || !s.hub.opts.Keeps(s.keeps) {
		s.planLocked(now + 1) // what was taken is not where it is kept yet
		return
	}
	s.told = s.got
	b := buffers.Get().(*[]byte)
	*b = appendGot((*b)[:0], s.got)
	s.transmitLocked(*b, now)
	giveBack(b)
}

// bye ends the page because its tab was closed. A client that is no longer the page's
// has no say.
func (s *Session) bye(a *Attachment, client string) {
	s.mu.Lock()
	mine := a != nil && s.attached == a || a == nil && client != "" && client == s.client
	s.mu.Unlock()
	if mine {
		s.EndFor(CodeEnded, WhyClosed)
	}
}
