package kill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// socket is a page's session over one WebSocket that must outlive all workers.
type socket struct {
	conn net.Conn
	host int // number of the one that it is of
	copy *copied
	done chan struct{}

	writing sync.Mutex // guards sent, and the order on the wire
	sent    uint64

	mu      sync.Mutex // guards the rest
	waiting map[uint64]chan frame
	pushed  []int
	epoch   string
	last    uint64 // number of the last frame
	err     error
}

// frame is one of the host's: protocol/push.md.
type frame struct {
	T, Epoch string
	Resumed  bool
	N, R     uint64
	At, Got  uint64
	M        *struct{ Pushed int }
	D        json.RawMessage
	V, H     json.RawMessage // what is shared: of one commit, and all
	E        *struct{ Code, Message string }
}

// connect opens the session of a page, or goes on where it was before.
func (b *browser) connect(page string, shared *copied, before *socket) (*socket, error) {
	if before != nil {
		before.close() // what has come is taken
	}
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Cookie": {b.cookies("/")}}, Timeout: patience}
	url, host := b.world.where()
	conn, early, _, err := d.Dial(context.Background(), strings.Replace(url, "http", "ws", 1)+"/_guado/push")
	if err != nil {
		return nil, err
	}
	if early != nil {
		return nil, fmt.Errorf("the host spoke first")
	}
	s := &socket{conn: conn, host: host, copy: shared, done: make(chan struct{}), waiting: map[uint64]chan frame{}}
	position := ""
	if before != nil {
		s.pushed, s.epoch, s.last = before.pushes(), before.epoch, before.last
		position = fmt.Sprintf(`,"epoch":%q,"at":%d`, s.epoch, s.last)
	}
	if err := wsutil.WriteClientText(conn, fmt.Appendf(nil, `{"t":"hello","v":1,"page":%q,"client":%q%s}`, page, page, position)); err != nil {
		return nil, err
	}
	text, err := wsutil.ReadServerText(conn)
	if err != nil {
		return nil, fmt.Errorf("no hello: %w", err)
	}
	var hello frame
	if err := json.Unmarshal(text, &hello); err != nil || hello.T != "hello" {
		return nil, fmt.Errorf("%q is no hello: %w", text, err)
	}
	// What left before and was not answered is given up, not sent again.
	s.epoch, s.last, s.sent = hello.Epoch, hello.At, hello.Got
	if !hello.Resumed {
		shared.missed()
	}
	go s.read()
	return s, nil
}

func (s *socket) read() {
	defer close(s.done)
	for {
		text, err := wsutil.ReadServerText(s.conn)
		var f frame
		if err == nil {
			err = json.Unmarshal(text, &f)
		}
		if err == nil {
			err = s.take(f, string(text) == "{}")
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			return
		}
	}
}

// take does what a frame says. beat: the host wants to know whether somebody is there.
func (s *socket) take(f frame, beat bool) error {
	if f.T == "close" {
		return fmt.Errorf("the host closes: %+v", f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.N > 0 {
		if f.N != s.last+1 {
			return fmt.Errorf("frame %d came after %d", f.N, s.last)
		}
		s.last = f.N
	}
	if f.M != nil && f.M.Pushed > 0 {
		s.pushed = append(s.pushed, f.M.Pushed)
	}
	if f.V != nil {
		s.copy.take(f.V, false)
	}
	if f.H != nil {
		s.copy.take(f.H, true)
	}
	if reply := s.waiting[f.R]; reply != nil { // it was not answered before
		reply <- f
		delete(s.waiting, f.R)
	}
	if f.N == 0 && !beat {
		return nil
	}
	at := s.last
	go func() { _ = s.write(func() []byte { return fmt.Appendf(nil, `{"a":%d}`, at) }) }() // the reader must not wait for a writer
	return nil
}

func (s *socket) write(text func() []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return wsutil.WriteClientText(s.conn, text())
}

// ask carries an operation as a request of the page.
func (s *socket) ask(d do, into any) error { return s.asks(d, into, 0, 1) }

// asks sends it so many times, with one number: that of a message which a host of before has
// taken, or the next one.
func (s *socket) asks(d do, into any, number uint64, times int) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return s.sends("q", data, into, number, times)
}

// sends does so with any request; how: what the frame calls its data.
func (s *socket) sends(how string, data []byte, into any, number uint64, times int) error {
	reply := make(chan frame, 1)
	for i := range times {
		if err := s.write(func() []byte {
			if number == 0 || number > s.sent {
				s.sent++
				number = s.sent
			}
			if i == 0 {
				s.mu.Lock()
				s.waiting[number] = reply
				s.mu.Unlock()
			}
			return fmt.Appendf(nil, `{"c":%d,%q:%s}`, number, how, data)
		}); err != nil {
			return fmt.Errorf("%w: %w", errSession, err)
		}
	}
	select {
	case f := <-reply:
		switch {
		case f.E == nil:
			return json.Unmarshal(f.D, into)
		case f.E.Code == "lost", f.E.Code == "unknown", f.E.Code == "busy":
			return errUnknown
		}
		return fmt.Errorf("refused: %s %s", f.E.Code, f.E.Message)
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("%w: %w", errSession, s.err)
	case <-time.After(patience):
		return fmt.Errorf("no reply")
	}
}

// errSession says that a session's connection broke.
var errSession = errors.New("the connection of the session ended")

func (s *socket) pushes() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pushed)
}

func (s *socket) close() {
	_ = s.conn.Close() // it may have ended
	<-s.done
}
