package linktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// Request is a REQUEST or a TURN as the worker sees it.
type Request struct {
	Stream     uint32
	Version    int
	Flags      uint16
	App        int
	Length     int64
	TLSVersion uint16
	Cipher     uint16
	ServerPort int
	ClientPort int

	ID, Method, Scheme, Path, RawPath, Query, Target, Root, ServerName, ClientHost, TraceParent string

	Fields []Field
	Inline []byte
	End    bool // the body is complete in Inline

	Turn *exchange.Turn // of TURN, which has App beside it; nil: it is a request

	// Said are the frames of a WebSocket that came, and CANCEL.
	Said chan Frame

	peer *Peer
	news chan struct{}

	mu          sync.Mutex // guards below
	body        []byte
	ended       bool
	cut         bool
	cancelled   uint32
	interrupted bool
	credit      int64
	files       int64 // may still be sent
}

// ParseRequest reads the payload of REQUEST.
func ParseRequest(p []byte) (*Request, error) {
	r := new(Request)
	if len(p) < 24 {
		return nil, fmt.Errorf("request of %d bytes", len(p))
	}
	le := binary.LittleEndian
	r.Version, r.Flags, r.App = int(p[0]), le.Uint16(p[2:]), int(le.Uint16(p[4:]))
	count := int(le.Uint16(p[6:]))
	r.Length = int64(le.Uint64(p[8:]))
	r.TLSVersion, r.Cipher = le.Uint16(p[16:]), le.Uint16(p[18:])
	r.ServerPort, r.ClientPort = int(le.Uint16(p[20:])), int(le.Uint16(p[22:]))
	at := 24
	take := func(n int) string {
		if n < 0 || len(p)-at < n {
			at = len(p) + 1
			return ""
		}
		at += n
		return string(p[at-n : at])
	}
	long := func() int {
		if b := take(4); len(b) == 4 {
			return int(le.Uint32([]byte(b)))
		}
		return -1
	}
	for _, s := range []*string{
		&r.ID, &r.Method, &r.Scheme, &r.Path, &r.RawPath, &r.Query, &r.Target, &r.Root,
		&r.ServerName, &r.ClientHost, &r.TraceParent,
	} {
		if *s = take(long()); at > len(p) {
			return nil, errors.New("request string is longer than the payload")
		}
	}
	for range count {
		head := take(4)
		if at > len(p) {
			return nil, errors.New("field is longer than the payload")
		}
		n, v := int(le.Uint16([]byte(head))), long()
		r.Fields = append(r.Fields, Field{take(n), take(v)})
	}
	r.Inline = []byte(take(long()))
	if at != len(p) {
		return nil, fmt.Errorf("request of %d bytes was read to %d", len(p), at)
	}
	return r, nil
}

// ParseTurn reads the payload of TURN.
func ParseTurn(p []byte) (app int, t *exchange.Turn, err error) {
	le := binary.LittleEndian
	if len(p) < 8 || p[3] > 1 || le.Uint32(p[4:]) != 0 {
		return 0, nil, fmt.Errorf("turn of %d bytes", len(p))
	}
	t = &exchange.Turn{Do: exchange.TurnKind(p[2]), Opened: p[3] == 1}
	if t.Do < exchange.TurnOpen || t.Do > exchange.TurnWrite {
		return 0, nil, fmt.Errorf("turn that does %d", p[2])
	}
	var parts [8][]byte
	rest := p[8:]
	for i := range parts {
		if len(rest) < 4 || uint64(len(rest)-4) < uint64(le.Uint32(rest)) {
			return 0, nil, errors.New("a string of a turn is longer than the payload")
		}
		n := 4 + int(le.Uint32(rest))
		parts[i], rest = rest[4:n], rest[n:]
	}
	if len(rest) > 0 {
		return 0, nil, fmt.Errorf("turn with %d bytes behind it", len(rest))
	}
	t.Page, t.User, t.Connection, t.Data = string(parts[0]), string(parts[1]), string(parts[2]), parts[3]
	t.Class, t.Args, t.Topic, t.Why = string(parts[4]), parts[5], string(parts[6]), string(parts[7])
	return int(le.Uint16(p)), t, nil
}

// Get is the value of the first field with this name.
func (r *Request) Get(name string) string {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Reply answers with a complete response.
func (r *Request) Reply(status int, body []byte, fields ...Field) error {
	p := AppendCommit(nil, status, "", int64(len(body)), body, fields...)
	return r.peer.Send(link.KindCommit, link.End, r.Stream, 0, p)
}

// Say sends a frame of a WebSocket.
func (r *Request) Say(kind link.Kind, flags link.Flags, arg uint32, payload string) error {
	return r.peer.Send(kind, flags, r.Stream, arg, []byte(payload))
}

// Head sends a head without END.
func (r *Request) Head(status int, length int64, fields ...Field) error {
	return r.peer.Send(link.KindCommit, 0, r.Stream, 0, AppendCommit(nil, status, "", length, nil, fields...))
}

// Write sends body bytes, waiting for credit. flags go with the last piece.
func (r *Request) Write(p []byte, flags link.Flags) error {
	for {
		n := 0
		err := r.wait(func() bool {
			n = min(len(p), int(r.credit), r.peer.maxFrame-16)
			return n > 0 || len(p) == 0
		})
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.credit -= int64(n)
		r.mu.Unlock()
		last := n == len(p)
		f := flags
		if !last {
			f = 0
		}
		if err := r.peer.Send(link.KindResponseBody, f, r.Stream, 0, p[:n]); err != nil || last {
			return err
		}
		p = p[n:]
	}
}

// File sends a part of a file, waiting for credit.
func (r *Request) File(f *os.File, offset, count int64, flags link.Flags) error {
	if err := r.wait(func() bool { return r.files > 0 }); err != nil {
		return err
	}
	r.mu.Lock()
	r.files--
	r.mu.Unlock()
	return r.peer.SendFile(r.Stream, f, offset, count, flags)
}

// Interrupted reports whether INTERRUPT came.
func (r *Request) Interrupted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.interrupted
}

// ErrCut says that the host cut the body; ErrCancelled that it cancelled the request.
var (
	ErrCut       = errors.New("body was cut")
	ErrCancelled = errors.New("request was cancelled")
)

// Read reads the request body, and returns the credit.
func (r *Request) Read(p []byte) (int, error) {
	if err := r.wait(func() bool { return len(r.body) > 0 || r.ended }); err != nil {
		return 0, err
	}
	r.mu.Lock()
	n := copy(p, r.body)
	r.body = r.body[n:]
	cut := r.cut
	r.mu.Unlock()
	switch {
	case n > 0:
		return n, r.peer.Send(link.KindCredit, 0, r.Stream, uint32(n), nil)
	case cut:
		return 0, ErrCut
	default:
		return 0, io.EOF
	}
}

// Cancelled is the reason of CANCEL, or 0.
func (r *Request) Cancelled() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cancelled
}

// WaitCancelled waits for CANCEL and gives its reason.
func (r *Request) WaitCancelled() uint32 {
	_ = r.wait(func() bool { return false }) // it only returns because of CANCEL
	return r.Cancelled()
}

func (r *Request) wait(ready func() bool) error {
	for {
		r.mu.Lock()
		ok, cancelled := ready(), r.cancelled != 0 && r.cancelled != link.CancelHalfClosed
		r.mu.Unlock()
		switch {
		case ok:
			return nil
		case cancelled:
			return ErrCancelled
		}
		<-r.news
	}
}

func (r *Request) tell(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// Serve shakes hands and runs handler in a goroutine for each request that starts,
// until DRAIN has been followed or the link ends. It waits for the handlers.
func (p *Peer) Serve(handler func(*Request), kinds ...string) error {
	hello, err := p.Shake(kinds...)
	if err != nil {
		return err
	}
	return p.Requests(hello, handler)
}

// Requests is Serve after the handshake.
func (p *Peer) Requests(hello link.Hello, handler func(*Request)) error {
	s := &server{p: p, hello: hello, handler: handler, partial: make(map[uint32][]byte), streams: make(map[uint32]*Request)}
	defer s.running.Wait()
	defer s.stop()
	if p.Threads > 0 {
		s.waiting = make(chan *Request, 1<<16)
		defer close(s.waiting)
		for range p.Threads {
			s.running.Go(s.thread)
		}
	}
	for {
		f, err := p.Next()
		if errors.Is(err, io.EOF) || err == nil && f.Kind == link.KindDrain {
			return nil
		}
		if err == nil {
			err = s.frame(f)
		}
		if err != nil {
			return err
		}
	}
}

type server struct {
	p       *Peer
	hello   link.Hello
	handler func(*Request)
	partial map[uint32][]byte
	running sync.WaitGroup
	waiting chan *Request // for a thread; nil: each request starts at once

	mu      sync.Mutex // guards streams
	streams map[uint32]*Request
}

func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.streams {
		r.tell(func() { r.cancelled = link.CancelStopping })
	}
}

func (s *server) frame(f Frame) error {
	switch f.Kind {
	case link.KindPing:
		return s.p.Send(link.KindPong, 0, 0, f.Arg, nil)
	case link.KindRequest, link.KindTurn:
		return s.request(f)
	}
	s.mu.Lock()
	r := s.streams[f.Stream]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	switch f.Kind {
	case link.KindMessage, link.KindDisconnect, link.KindCancel:
		r.Said <- f
	}
	r.tell(func() {
		switch f.Kind {
		case link.KindBody:
			r.body = append(r.body, f.Payload...)
			r.ended = f.Flags&link.End != 0
			r.cut = r.ended && f.Arg == 1
		case link.KindCancel:
			r.cancelled = f.Arg
		case link.KindInterrupt:
			r.cancelled, r.interrupted = f.Arg, true
		case link.KindFileGrant:
			r.files += int64(f.Arg)
		case link.KindGrant:
			r.credit += int64(f.Arg)
		}
	})
	return nil
}

func (s *server) request(f Frame) error {
	payload := f.Payload
	if earlier := s.partial[f.Stream]; earlier != nil || f.Flags&link.More != 0 {
		earlier = append(earlier, f.Payload...)
		payload, s.partial[f.Stream] = earlier, earlier
		if f.Flags&link.More != 0 {
			return nil
		}
		delete(s.partial, f.Stream)
	}
	var r *Request
	var err error
	if f.Kind == link.KindTurn {
		r = new(Request)
		r.App, r.Turn, err = ParseTurn(payload)
	} else {
		r, err = ParseRequest(payload)
	}
	if err != nil {
		return err
	}
	r.open(s.p, f, s.hello)
	r.Said = make(chan Frame, 1000)
	if s.waiting != nil {
		s.add(r)
		s.waiting <- r
		return nil
	}
	if s.p.Start(f.Stream) {
		s.add(r)
		s.running.Go(func() { s.run(r) })
	}
	return nil
}

func (s *server) add(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[r.Stream] = r
}

func (s *server) run(r *Request) {
	s.handler(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[r.Stream] == r {
		delete(s.streams, r.Stream)
	}
}

// thread runs requests in order of arrival.
func (s *server) thread() {
	for r := range s.waiting {
		if s.p.Start(r.Stream) {
			s.run(r)
		}
	}
}

func (r *Request) open(p *Peer, f Frame, hello link.Hello) {
	r.peer, r.Stream, r.End = p, f.Stream, f.Flags&link.End != 0
	r.body, r.ended = r.Inline, r.End
	r.credit, r.files = int64(hello.ResponseCredit), int64(hello.FileCredit)
	r.news = make(chan struct{}, 1)
}

// Peer is the peer that the request came over.
func (r *Request) Peer() *Peer { return r.peer }
