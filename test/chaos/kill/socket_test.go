package kill

import (
	"context"
	"encoding/json"
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
	done chan struct{}

	writing sync.Mutex // guards sent, and the order on the wire
	sent    uint64

	mu      sync.Mutex // guards the rest
	waiting map[uint64]chan frame
	pushed  []int
	last    uint64 // number of the last frame
	err     error
}

// frame is one of the host's: protocol/push.md.
type frame struct {
	T       string
	Resumed bool
	N, R    uint64
	M       *struct{ Pushed int }
	D       json.RawMessage
	E       *struct{ Code, Message string }
}

// connect opens the session of a page that was just made.
func (b *browser) connect(page string) (*socket, error) {
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Cookie": {b.cookies("/")}}, Timeout: patience}
	conn, early, _, err := d.Dial(context.Background(), strings.Replace(b.url, "http", "ws", 1)+"/_guado/push")
	if err != nil {
		return nil, err
	}
	if early != nil {
		return nil, fmt.Errorf("the host spoke first")
	}
	s := &socket{conn: conn, done: make(chan struct{}), waiting: map[uint64]chan frame{}}
	if err := wsutil.WriteClientText(conn, fmt.Appendf(nil, `{"t":"hello","v":1,"page":%q,"client":%q}`, page, page)); err != nil {
		return nil, err
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
			err = s.take(f)
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			return
		}
	}
}

func (s *socket) take(f frame) error {
	if f.T == "close" {
		return fmt.Errorf("the host closes: %+v", f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.N > 0 {
		if s.last > 0 && f.N != s.last+1 {
			return fmt.Errorf("frame %d came after %d", f.N, s.last)
		}
		s.last = f.N
	}
	if f.M != nil && f.M.Pushed > 0 {
		s.pushed = append(s.pushed, f.M.Pushed)
	}
	if f.R > 0 {
		s.waiting[f.R] <- f
		delete(s.waiting, f.R)
	}
	if f.N == 0 && f.T == "" {
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
func (s *socket) ask(d do, into any) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	reply := make(chan frame, 1)
	if err := s.write(func() []byte {
		s.sent++
		s.mu.Lock()
		s.waiting[s.sent] = reply
		s.mu.Unlock()
		return fmt.Appendf(nil, `{"c":%d,"q":%s}`, s.sent, data)
	}); err != nil {
		return err
	}
	select {
	case f := <-reply:
		switch {
		case f.E == nil:
			return json.Unmarshal(f.D, into)
		case f.E.Code == "lost":
			return errUnknown
		}
		return fmt.Errorf("refused: %s %s", f.E.Code, f.E.Message)
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("the session ended though only its worker was killed: %w", s.err)
	case <-time.After(patience):
		return fmt.Errorf("no reply")
	}
}

func (s *socket) pushes() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pushed)
}

func (s *socket) close() {
	_ = s.conn.Close() // it may have ended
	<-s.done
}
