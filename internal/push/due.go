package push

// planLocked sees to it that the wheel wakes the session at due or before.
func (s *Session) planLocked(due tick) {
	if s.ended || s.wakeAt != 0 && s.wakeAt <= due {
		return
	}
	s.wakeAt = due
	s.hub.wheel.set(s, due)
}

// wake is the wheel's call: what is due is done, and the next time planned.
func (s *Session) wake(now tick) {
	s.mu.Lock()
	s.wakeAt = 0
	if s.ended || s.frozen {
		leaving := s.leaving != nil
		s.mu.Unlock()
		if leaving {
			s.leave(now)
		}
		return
	}
	s.trimLocked(now)
	next := s.expiryLocked(now)
	if s.attached != nil {
		s.tellGotLocked(now)
	}
	if s.attached != nil {
		next = s.beatLocked(now, next)
	}
	over := false
	if s.attached == nil && !s.ended {
		left := s.left + ticks(s.lifeLocked())
		if over = now >= left; over {
			why := WhyUnclaimed
			if s.claimedLocked() {
				why = WhyExpired
			}
			s.endLocked(CodeEvicted, why)
		}
		next = sooner(next, left)
	}
	if !over && next != 0 {
		s.planLocked(next)
	}
	s.mu.Unlock()
	if over {
		s.hub.count.expired.Add(1)
		s.hub.forget(s)
	}
	s.tell()
}

// expiryLocked is when the oldest frame of the tail goes; 0: there is none.
func (s *Session) expiryLocked(tick) tick {
	if len(s.tail.entries) == 0 {
		return 0
	}
	return s.tail.entries[0].since + ticks(s.hub.opts.TailAge) + 1
}

// beatLocked lets a silent client go, and shows a sign of life to one that has heard
// nothing for a while. The client answers it, which is how the host sees that it lives.
func (s *Session) beatLocked(now, next tick) tick {
	beat := ticks(s.hub.opts.Beat)
	if now >= s.heard+2*beat {
		s.hub.count.silent.Add(1)
		s.detachLocked(CodeSilent)
		return next
	}
	if now >= s.sent+beat {
		s.transmitLocked(beatFrame, now)
		if s.attached == nil {
			return next
		}
	}
	return sooner(next, sooner(s.sent+beat, s.heard+2*beat))
}

func sooner(a, b tick) tick {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
