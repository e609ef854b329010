package link

import (
	"os"
	"sync"
	"sync/atomic"
)

// Bell is rung when a stream has news: frames to take, credit, the link's end. It
// must not block, may be rung from any goroutine and once too often.
type Bell interface{ Ring() }

// Frame is something the worker said on a stream.
type Frame struct {
	Kind    Kind // KindCommit, Informational, ResponseBody, Trailers, File, Abort, Done
	Flags   Flags
	Arg     uint32   // of Commit, ResponseBody, Trailers: microseconds in the application; 0 not told
	Payload []byte   // valid until the next Take or Close
	File    *os.File // of KindFile; the taker closes it
	Offset  int64
	Count   int64
}

// BodyFlag says how a piece of the request body ends.
type BodyFlag uint8

// Values of BodyFlag.
const (
	BodyMore BodyFlag = iota
	BodyEnd           // with the last bytes
	BodyCut           // the body was cut: the worker must not take it for complete
)

// Stream is one exchange on a link. One goroutine uses it, the exchange's; a second
// one may call Body, and the bell may wake either. After Close it must not be touched,
// for the link gives it to the next exchange.
type Stream struct {
	l    *Link
	slot uint32
	line line // frames that wait for room; guarded by outbox.mu

	id      atomic.Uint32 // 0: the slot is free; written under mu
	started atomic.Bool   // STARTED came (socket transport)
	fate    atomic.Uint32 // set when the link ends

	mu         sync.Mutex // guards all below
	bell       Bell
	rung       bool // rung since the last Take
	in, out    *box // the reader fills in, the consumer reads out
	life       life
	credit     int64     // bytes of body that the worker takes
	wantCredit bool      // ring when it grows
	bytes      allowance // of the answer's body
	files      allowance // of the answer
	socket     bool      // the request asks for a WebSocket
	requested  bool      // Request was called
	sentEnd    bool      // the request's END left
	cancelled  uint32    // reasons that were sent, as bits
	dropping   bool      // nobody wants the answer any more
	abandoned  bool      // Close came before the worker's end
	revoked    bool      // the worker will never say anything
	freed      func()    // to call when the worker is through with it
	ended      bool      // END was taken
	excess     string    // why the answer must be cut, until that is done
	partial    []byte    // COMMIT under reassembly; not nil: one has begun
	about      about
	litter     []*os.File // to close once mu is left
}

// unlock leaves mu and closes the files that were dropped under it.
func (s *Stream) unlock() {
	litter := s.litter
	s.litter = nil
	s.mu.Unlock()
	for _, f := range litter {
		s.l.closeFile(f)
	}
}

// box holds frames in order, their bytes in one piece of memory.
type box struct {
	mem  buffer
	recs []record
}

type record struct {
	kind          Kind
	flags         Flags
	parked        bool // a FILE whose descriptor has not come
	arg           uint32
	at, n         int
	offset, count int64
	file          *os.File
}

// ID is the stream's number on the wire: generation and slot.
func (s *Stream) ID() uint32 { return s.id.Load() }

// Request sends REQUEST with a payload made by [AppendRequest]; end: the body is
// complete inside. It never blocks.
func (s *Stream) Request(payload []byte, end bool) error {
	s.mu.Lock()
	s.requested, s.sentEnd = true, end
	s.mu.Unlock()
	return s.l.sent(s.l.out.request(s, KindRequest, s.id.Load(), payload, end))
}

// Turn sends TURN with a payload made by [AppendTurn]. It never blocks.
func (s *Stream) Turn(payload []byte) error {
	s.mu.Lock()
	s.requested, s.sentEnd = true, true
	s.mu.Unlock()
	return s.l.sent(s.l.out.request(s, KindTurn, s.id.Load(), payload, true))
}

// Body sends as much of p as the worker's credit allows and says how much that was.
// What is less than p: the bell rings when there is credit again. f is heeded only
// when all of p was taken.
func (s *Stream) Body(p []byte, f BodyFlag) (int, error) {
	s.mu.Lock()
	if s.sentEnd {
		s.mu.Unlock()
		return 0, ErrEnded
	}
	n := int(min(int64(len(p)), s.credit))
	s.wantCredit = n < len(p)
	flags, arg := Flags(0), uint32(0)
	if n == len(p) && f != BodyMore {
		flags = End
		if f == BodyCut {
			arg = cutArg
		}
	}
	// Taken before the bytes leave: the worker may return it before this goroutine
	// runs again.
	s.credit -= int64(n)
	s.sentEnd = flags == End
	s.mu.Unlock()
	if n == 0 && flags == 0 {
		return 0, s.Err()
	}
	took, err := s.l.out.body(s, KindBody, flags, s.id.Load(), arg, p[:n], int(s.l.o.RequestCredit))
	if took && err == nil {
		return n, nil
	}
	s.mu.Lock()
	s.credit += int64(n)
	s.sentEnd = false
	s.mu.Unlock()
	return 0, s.l.sent(err)
}

// Cancel tells the worker why its answer is not wanted any more. Except for
// [CancelHalfClosed] nothing of the answer comes after it but its end, as a frame of
// KindDone or KindAbort, so that nobody in the worker waits for credit.
func (s *Stream) Cancel(reason uint32) { s.cancel(s.id.Load(), KindCancel, reason) }

// Interrupt is [Stream.Cancel] for a deadline that has passed, and makes the worker
// interrupt the application's code. False: there was nothing to interrupt any more.
func (s *Stream) Interrupt() bool {
	if !s.cancel(s.id.Load(), KindInterrupt, CancelDeadline) {
		return false
	}
	// A loop that does not come back holds a wake-up unanswered: the frame behind it is
	// what calls the watch thread.
	s.l.Ping(interruptNonce)
	return true
}

// interruptNonce marks a PING that asks for no pulse.
const interruptNonce = 1<<32 - 1

func (s *Stream) cancel(id uint32, kind Kind, reason uint32) bool {
	s.mu.Lock()
	if s.id.Load() != id {
		s.mu.Unlock()
		return false
	}
	tell, back := s.cancelLocked(reason)
	s.unlock()
	if tell {
		s.l.tell(s, id, kind, reason)
	}
	s.l.grant(s, id, back)
	return tell
}

// cancelLocked says whether CANCEL is to be sent and how much credit with it. Under mu.
func (s *Stream) cancelLocked(reason uint32) (tell bool, back grants) {
	if s.cancelled&(1<<reason) != 0 || !s.requested || s.life == lifeOver || s.revoked {
		return false, back
	}
	s.cancelled |= 1 << reason
	if reason != CancelHalfClosed && !s.dropping {
		back = s.dropAll()
	}
	return true, back
}

// dropAll forgets what was filed and says how much credit that gives back. Under mu.
func (s *Stream) dropAll() grants {
	s.dropping = true
	s.in.clear(s)
	if s.partial != nil {
		s.partial = s.partial[:0]
	}
	return grants{s.bytes.all(), s.files.all()}
}

// Take appends the frames that arrived since the last call to buf. Their payloads
// stay valid until the next Take or Close.
func (s *Stream) Take(buf []Frame) []Frame {
	s.mu.Lock()
	s.out.clear(s)
	s.in, s.out = s.out, s.in
	s.rung = false
	o := s.out
	for i := range o.recs {
		if o.recs[i].parked {
			s.in.moveFrom(o, i)
			break
		}
	}
	for i := range o.recs {
		s.ended = s.ended || o.recs[i].flags&End != 0
	}
	s.unlock()
	for i := range o.recs {
		r := &o.recs[i]
		buf = append(buf, Frame{
			Kind: r.kind, Flags: r.flags, Arg: r.arg, Payload: o.mem.b[r.at : r.at+r.n : r.at+r.n],
			File: r.file, Offset: r.offset, Count: r.count,
		})
		r.file = nil
	}
	return buf
}

// Credit says that n bytes of the answer's body were written to the client. The
// worker hears of it in pieces of a quarter of the credit.
func (s *Stream) Credit(n int) { s.taken(int64(n), 0) }

// CreditFile says the same of a file.
func (s *Stream) CreditFile() { s.taken(0, 1) }

func (s *Stream) taken(bytes, files int64) {
	s.mu.Lock()
	if s.dropping || s.life >= lifeBusy {
		s.mu.Unlock()
		return // nothing more will be sent
	}
	back := grants{s.bytes.give(bytes), s.files.give(files)}
	s.mu.Unlock()
	s.l.grant(s, s.id.Load(), back)
}

// Revoke takes the request back when the worker has not started it: true means that
// it never will, and the stream may be closed and the request tried elsewhere. The
// socket transport can revoke only what has not left the host.
func (s *Stream) Revoke() bool {
	f := s.l.out.revoke(s, s.id.Load())
	if f == fateOpen {
		f = fate(s.fate.Load())
	}
	if f != fateNotStarted {
		return false
	}
	s.mu.Lock()
	s.revoked = true
	s.mu.Unlock()
	return true
}

// Started reports whether the worker has called the application, or may have. Once
// [Stream.Err] is set the answer is final: false means that it never will.
func (s *Stream) Started() bool {
	if s.Err() != nil {
		return fate(s.fate.Load()) == fateStarted
	}
	return s.started.Load() || s.l.out.started(s.id.Load())
}

// Err is why the link ended, nil while it lives. Frames that came before are still
// there to take.
func (s *Stream) Err() error { return s.l.Err() }

// Refuse ends the link because the worker sent what cannot be: the error of
// [DecodeHead], for instance.
func (s *Stream) Refuse(err error) { s.l.condemn(err) }

// Close is [Stream.Abandon] without a callback.
func (s *Stream) Close() { s.Abandon(nil) }

// Abandon ends the use of the stream. While the worker is not through with the
// exchange (no END yet, or END with BUSY and no DONE) the slot stays taken: without
// END the exchange is cancelled, and what still comes is dropped. freed, unless nil,
// is called once when the worker is through or the link has ended: in the second case
// or when that is so already on this goroutine, else on the link's reader, so it must
// not block.
func (s *Stream) Abandon(freed func()) {
	s.mu.Lock()
	id := s.id.Load()
	if id == 0 || s.abandoned {
		s.mu.Unlock()
		return
	}
	s.abandoned, s.freed, s.bell = true, freed, silent{}
	through := s.life == lifeOver || s.revoked || !s.requested
	tell, back := false, grants{}
	switch {
	case through, s.dropping: // cancelled already, and told why
	case s.life < lifeBusy:
		tell, back = s.cancelLocked(CancelGone)
	default:
		s.dropAll()
	}
	s.unlock()
	// From here on the stream may be another exchange's: only its id names this one.
	if tell {
		s.l.tell(s, id, KindCancel, CancelGone)
	}
	s.l.grant(s, id, back)
	if through || s.l.dead() {
		s.release(id)
	}
}

// silent is the bell of a stream that nobody waits for.
type silent struct{}

func (silent) Ring() {}

// release gives the slot back; who finds the stream abandoned and through calls it,
// and the first one wins.
func (s *Stream) release(id uint32) {
	s.mu.Lock()
	if id == 0 || s.id.Load() != id || !s.abandoned {
		s.mu.Unlock()
		return
	}
	s.id.Store(0)
	freed := s.freed
	s.freed, s.bell, s.partial = nil, nil, nil
	s.about = about{}
	s.in.clear(s)
	s.out.clear(s)
	s.in.mem.reset()
	s.out.mem.reset()
	s.unlock()
	s.l.files.forget(id)
	s.l.table.free(s)
	if freed != nil {
		freed()
	}
}

// ring wakes the consumer.
func (s *Stream) ring() {
	s.mu.Lock()
	b := s.bell
	s.mu.Unlock()
	if b != nil {
		b.Ring()
	}
}

// begin makes the stream ready for its next exchange.
func (s *Stream) begin(id uint32, b Bell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bell, s.rung, s.life = b, false, lifeHead
	s.credit, s.wantCredit = int64(s.l.o.RequestCredit), false
	s.bytes.reset(s.l.o.ResponseCredit)
	s.files.reset(s.l.o.FileCredit)
	s.requested, s.sentEnd, s.cancelled, s.socket = false, false, 0, false
	s.dropping, s.abandoned, s.revoked, s.ended = false, false, false, false
	s.excess, s.about = "", about{}
	s.started.Store(false)
	s.fate.Store(uint32(fateOpen))
	s.id.Store(id)
}

// clear forgets the frames of a box, closing files that nobody took.
func (b *box) clear(s *Stream) {
	for i := range b.recs {
		if f := b.recs[i].file; f != nil {
			s.litter = append(s.litter, f)
			b.recs[i].file = nil
		}
	}
	b.recs, b.mem.b = b.recs[:0], b.mem.b[:0]
}

// moveFrom takes over the records of o from index i on, with their bytes.
func (b *box) moveFrom(o *box, i int) {
	for _, r := range o.recs[i:] {
		p := o.mem.b[r.at : r.at+r.n]
		r.at = len(b.mem.b)
		b.mem.append(p)
		b.recs = append(b.recs, r)
	}
	o.recs = o.recs[:i]
}
