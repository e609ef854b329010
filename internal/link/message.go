package link

// BeSocket says that the request asks for a WebSocket: after a head of 101 the worker
// may send MESSAGE and CLOSE. It comes before Request.
func (s *Stream) BeSocket() {
	s.mu.Lock()
	s.socket = true
	s.mu.Unlock()
}

// SetBell lets another one hear of news from now on. It may have to look at what came
// before.
func (s *Stream) SetBell(b Bell) {
	s.mu.Lock()
	s.bell, s.rung = b, false
	s.mu.Unlock()
}

// Message sends a message of the client, or as much of it as the worker's credit allows,
// and says what is left; done says that the whole message was sent. What is left goes
// into the next call: the bell rings when there is credit again.
func (s *Stream) Message(kind uint32, p []byte) (rest []byte, done bool, err error) {
	s.mu.Lock()
	if s.sentEnd {
		s.mu.Unlock()
		return p, false, ErrEnded
	}
	n, cost, flags := len(p), int64(len(p)+MessageCost), Flags(0)
	if cost > s.credit {
		n, flags = int(min(int64(n), s.credit)), More
		cost = int64(n)
		s.wantCredit = true
		if n == 0 {
			s.mu.Unlock()
			return p, false, s.Err()
		}
	}
	s.credit -= cost
	s.mu.Unlock()
	took, err := s.l.out.body(s, KindMessage, flags, s.id.Load(), kind, p[:n], int(s.l.o.RequestCredit))
	if took && err == nil {
		return p[n:], flags == 0, nil
	}
	s.mu.Lock()
	s.credit += cost
	s.mu.Unlock()
	return p, false, s.l.sent(err)
}

// Disconnect tells the worker how the WebSocket ended. Nothing the application sends is
// wanted any more, and it may take its time to end: Abandon follows.
func (s *Stream) Disconnect(code uint16, reason string) {
	s.mu.Lock()
	if s.sentEnd || s.life == lifeOver || s.revoked || !s.requested {
		s.mu.Unlock()
		return
	}
	s.sentEnd = true
	back := grants{}
	if !s.dropping {
		back = s.dropAll()
	}
	id := s.id.Load()
	s.unlock()
	// A link that has ended rings the stream, which then sees Err.
	_ = s.l.sent(s.l.out.end(s, KindDisconnect, id, uint32(code), []byte(reason)))
	s.l.grant(s, id, back)
}
