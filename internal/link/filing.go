package link

import (
	"encoding/binary"
	"math"
)

// Bounds of what a worker can make the host keep beyond its credit.
const (
	maxHead    = 1 << 20 // bytes of a head with its fragments
	maxRecords = 1024    // frames of a stream that wait to be taken
)

// frame files one frame of the worker to its stream. It is the reader's: nothing in
// it blocks, and p is copied before it is looked at.
func (l *Link) frame(h header, p shared) error {
	if h.kind == KindLog {
		return l.logs.frame(h, p)
	}
	if h.kind == KindState {
		return l.state(h, p)
	}
	if h.flags&Alone != 0 {
		return corrupt("%v with flags 0x%02x", h.kind, uint8(h.flags))
	}
	if h.stream == 0 {
		return l.own(h, p)
	}
	refused, err := l.withState(h, p)
	if err != nil {
		return err
	}
	s, err := l.table.find(h.stream)
	if s == nil || err != nil {
		return err
	}
	switch h.kind {
	case KindCredit:
		return s.credited(h)
	case KindStarted:
		s.mu.Lock()
		if s.id.Load() == h.stream {
			s.started.Store(true)
		}
		s.mu.Unlock()
		return nil
	}
	if refused {
		return s.refuse(h, p)
	}
	return s.file(h, p)
}

// credited adds what the worker takes of the request body, at most what it may have
// back: a larger number buys it nothing.
func (s *Stream) credited(h header) error {
	s.mu.Lock()
	if s.id.Load() != h.stream {
		s.mu.Unlock()
		return nil
	}
	s.credit = min(s.credit+int64(h.arg), int64(s.l.o.RequestCredit))
	b := s.bell
	if !s.wantCredit || s.abandoned {
		b = nil
	}
	s.wantCredit = false
	s.mu.Unlock()
	if b != nil {
		b.Ring()
	}
	return nil
}

// file takes a frame of the answer.
func (s *Stream) file(h header, p shared) error {
	s.mu.Lock()
	if s.id.Load() != h.stream {
		s.mu.Unlock()
		return nil // stale: its stream ended while the frame was under way
	}
	next, err := s.life.after(h, s.socket)
	if err == nil && (s.revoked || !s.requested) {
		err = corrupt("%v for a request that the worker does not have", h.kind)
	}
	var back grants
	if err == nil {
		if s.dropping {
			back, err = s.discard(h, p, next)
		} else {
			err = s.keep(h, p)
		}
	}
	s.life = next
	over, excess := s.abandoned && next == lifeOver, s.excess
	s.excess = ""
	b := s.bell
	if err != nil || s.rung || len(s.in.recs) == 0 {
		b = nil
	}
	s.rung = s.rung || b != nil
	s.unlock()
	switch {
	case err != nil:
		return err
	case over:
		s.release(h.stream)
		return nil
	}
	if b != nil {
		b.Ring()
	}
	s.l.grant(s, h.stream, back)
	s.cut(h.stream, excess)
	return nil
}

// cut ends an exchange whose answer is more than the host keeps. That is the
// application's doing and no reason to end the worker.
func (s *Stream) cut(id uint32, excess string) {
	if excess != "" {
		s.l.o.Log.Warn("an answer was cut", "stream", id, "reason", excess)
		s.cancel(id, KindCancel, CancelStopping)
	}
}

// maxCloseReason is what a close frame holds.
const maxCloseReason = 123

// costOf is what a frame of MESSAGE takes of the credit.
func costOf(h header, n int) (int, error) {
	switch {
	case h.arg != MessageText && h.arg != MessageBinary:
		return 0, corrupt("MESSAGE of kind %d", h.arg)
	case h.flags&More == 0:
		return n + MessageCost, nil
	case n == 0:
		return 0, corrupt("MESSAGE that goes on after nothing")
	}
	return n, nil
}

// message files a message, or a part of one behind what is here of it. Under mu.
func (s *Stream) message(r record, p shared) error {
	cost, err := costOf(header{flags: r.flags, arg: r.arg}, r.n)
	if err == nil {
		err = s.charge(cost)
	}
	if err != nil {
		return err
	}
	in := s.in
	p.appendTo(&in.mem)
	if k := len(in.recs); k > 0 && in.recs[k-1].kind == KindMessageUp && in.recs[k-1].flags&More != 0 {
		in.recs[k-1].n += r.n
		in.recs[k-1].flags = r.flags
		return nil
	}
	in.recs = append(in.recs, r)
	return nil
}

// chargeFile counts a file against the credit. Under mu.
func (s *Stream) chargeFile() error {
	if s.files.allow == 0 {
		return corrupt("FILE on stream 0x%08x, %d were granted and not sent yet", s.id.Load(), s.files.whole)
	}
	s.files.allow--
	return nil
}

// charge counts body bytes against the credit. Under mu.
func (s *Stream) charge(n int) error {
	if int64(n) > s.bytes.allow {
		return corrupt("%d body bytes on stream 0x%08x, %d were granted", n, s.id.Load(), s.bytes.allow)
	}
	s.bytes.allow -= int64(n)
	return nil
}

// keep files the frame for the consumer. Under mu.
func (s *Stream) keep(h header, p shared) error {
	in := s.in
	if s.excess != "" {
		return nil // it is being cut
	}
	if s.partial != nil && h.kind != KindCommit {
		return corrupt("%v between fragments of COMMIT", h.kind)
	}
	r := record{kind: h.kind, flags: h.flags, arg: h.arg, at: len(in.mem.b), n: p.len()}
	if len(in.recs) >= maxRecords && h.kind != KindResponseBody && h.kind != KindMessageUp {
		s.excess = "too many frames that the client has not taken"
		return nil
	}
	switch h.kind {
	case KindResponseBody:
		if err := s.charge(r.n); err != nil {
			return err
		}
		p.appendTo(&in.mem)
		if k := len(in.recs); k > 0 && in.recs[k-1].kind == KindResponseBody {
			in.recs[k-1].n += r.n // one write to the client instead of two
			in.recs[k-1].flags |= r.flags
			in.recs[k-1].arg = r.arg
			return nil
		}
	case KindCommit:
		return s.commit(r, p)
	case KindMessageUp:
		return s.message(r, p)
	case KindClose:
		if r.n > maxCloseReason {
			return corrupt("CLOSE with a reason of %d bytes", r.n)
		}
		p.appendTo(&in.mem)
	case KindInformational:
		if r.at+r.n > maxHead+int(s.l.o.ResponseCredit) {
			s.excess = "too many early hints that the client has not taken"
			return nil
		}
		if _, err := headSize(p.appendTo(&in.mem)); err != nil {
			return err
		}
	case KindFile:
		return s.fileFrame(r, p)
	case KindAbort:
		if r.arg == AbortMoved {
			return corrupt("ABORT for a reason of the host's")
		}
		p.appendTo(&in.mem)
	default:
		p.appendTo(&in.mem)
	}
	in.recs = append(in.recs, r)
	return nil
}

// commit files a head, once all its fragments are there. Under mu.
func (s *Stream) commit(r record, p shared) error {
	in := s.in
	if s.partial != nil || r.flags&More != 0 {
		if len(s.partial)+p.len() > maxHead+int(s.l.o.ResponseCredit) {
			s.excess = "its head is larger than 1 MiB"
			return nil
		}
		s.partial = append(s.partial, p.b...)
		if r.flags&More != 0 {
			return nil
		}
		in.mem.append(s.partial)
		s.partial = nil
	} else {
		p.appendTo(&in.mem)
	}
	head := in.mem.b[r.at:]
	r.n = len(head)
	n, err := headSize(head)
	switch {
	case err != nil:
		return err
	case r.n-n < 4:
		return corrupt("COMMIT without the length of its body")
	}
	in.recs = append(in.recs, r)
	return s.charge(r.n - n - 4)
}

// fileFrame files a FILE, parked until its descriptor is there. Under mu.
func (s *Stream) fileFrame(r record, p shared) error {
	in := s.in
	b := p.appendTo(&in.mem)
	if len(b) != 16 {
		return corrupt("FILE of %d bytes", len(b))
	}
	offset, count := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if offset > math.MaxInt64 || count > math.MaxInt64-offset {
		return corrupt("FILE from %d, %d bytes", offset, count)
	}
	r.offset, r.count = int64(offset), int64(count)
	if err := s.chargeFile(); err != nil {
		return err
	}
	f, err := s.l.files.claim(s.id.Load(), r.arg)
	if err != nil {
		return err
	}
	r.file, r.parked = f, f == nil
	in.recs = append(in.recs, r)
	return nil
}

// discard keeps account of a frame that nobody wants any more, so that the worker
// gets its credit back, and files one last frame at the end. Under mu.
func (s *Stream) discard(h header, p shared, next life) (back grants, err error) {
	n, files := 0, 0
	switch h.kind {
	case KindResponseBody:
		n = p.len()
	case KindCommit:
		if s.partial != nil || h.flags&More != 0 {
			// Its body cannot be told apart without the whole head: the worker may send
			// a credit's worth with it, and gets that back.
			if s.partial = s.partial[:0]; s.partial == nil {
				s.partial = []byte{}
			}
			if h.flags&More == 0 {
				s.partial = nil
			}
			break
		}
		var scratch buffer
		b := p.appendTo(&scratch)
		at, err := headSize(b)
		if err != nil || len(b)-at < 4 {
			return back, corrupt("COMMIT of %d bytes is no head: %w", len(b), err)
		}
		n = len(b) - at - 4
		scratch.reset()
	case KindMessageUp:
		if n, err = costOf(h, p.len()); err != nil {
			return back, err
		}
	case KindFile:
		if err := s.chargeFile(); err != nil {
			return back, err
		}
		files = 1
		f, err := s.l.files.claim(h.stream, h.arg)
		if err != nil {
			return back, err
		}
		if f != nil {
			s.litter = append(s.litter, f)
		}
	}
	if err := s.charge(n); err != nil {
		return back, err
	}
	if next < lifeBusy {
		back = grants{s.bytes.give(int64(n)), s.files.give(int64(files))}
	}
	if next == lifeOver {
		r := record{kind: KindAbort, arg: AbortCancelled, at: len(s.in.mem.b)}
		switch {
		case h.kind == KindAbort:
			r.arg, r.n = h.arg, p.len()
			p.appendTo(&s.in.mem)
		case s.ended:
			r = record{kind: KindDone}
		}
		s.in.recs = append(s.in.recs, r)
	}
	return back, nil
}
