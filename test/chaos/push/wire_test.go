package push

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// wire is one connection of a client to its session, over either transport. A goroutine
// reads one frame ahead, and no further while nobody takes it.
type wire struct {
	conn   net.Conn
	frames chan []byte
	done   chan struct{}
	err    error // why frames was closed: a closedError when the host said so
	send   func(frames ...[]byte) error
	id     uint32 // of the host's hello
	socket bool
	once   sync.Once
}

func newWire(c net.Conn, read func() ([]byte, error)) (*wire, error) {
	w := &wire{conn: c, frames: make(chan []byte), done: make(chan struct{})}
	if err := c.SetDeadline(time.Time{}); err != nil { // that of the handshake
		return nil, err
	}
	go func() {
		defer close(w.frames)
		for {
			p, err := read()
			if err != nil {
				w.err = err
				return
			}
			select {
			case w.frames <- p:
			case <-w.done:
				w.err = net.ErrClosed
				return
			}
		}
	}()
	return w, nil
}

var errQuiet = errors.New("nothing came")

// read gives the next frame, or errQuiet.
func (w *wire) read(wait time.Duration) ([]byte, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case p, ok := <-w.frames:
		if !ok {
			return nil, w.err
		}
		return p, nil
	case <-timer.C:
		return nil, errQuiet
	}
}

func (w *wire) write(frames ...[]byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return w.send(frames...)
}

func (w *wire) close() {
	w.once.Do(func() {
		close(w.done)
		_ = w.conn.Close() // it may be over
	})
}

// drain waits until the host ends the connection, without a sign of life.
func (w *wire) drain() error {
	end := time.Now().Add(3 * patience) // thousands of others want the processor, too
	for {
		switch _, err := w.read(time.Until(end)); {
		case errors.Is(err, errQuiet):
			return wrong("the host keeps a connection (%d, WebSocket: %v) open whose client is silent", w.id, w.socket)
		case err != nil:
			return nil //nolint:nilerr // it was to come
		}
	}
}

// closedError is what the host said when it closed a connection.
type closedError struct {
	code   int
	reason string
}

func (e *closedError) Error() string { return fmt.Sprintf("closed with %d %s", e.code, e.reason) }

// patience bounds every wait for one event.
const patience = 60 * time.Second

func dialTCP(addr string, small bool) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	if small { // so that little lies in the kernel when it does not read
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

func dialSocket(addr, cookie string, hello []byte, small bool) (*wire, error) {
	c, err := dialTCP(addr, small)
	if err != nil {
		return nil, err
	}
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Cookie": {cookie}}, ReadBufferSize: 512, WriteBufferSize: 512}
	early, _, err := d.Upgrade(c, mustURL("ws://"+addr+"/_guado/push"))
	if err == nil {
		err = wsutil.WriteClientText(c, hello)
	}
	if err != nil {
		_ = c.Close() // the handshake's error counts
		return nil, err
	}
	var in io.Reader = c
	if early != nil {
		in = io.MultiReader(early, c)
	}
	var writing sync.Mutex
	w, err := newWire(c, func() ([]byte, error) { return readMessage(c, in, &writing) })
	if err != nil {
		return nil, err
	}
	w.socket = true
	w.send = func(frames ...[]byte) error {
		writing.Lock()
		defer writing.Unlock()
		for _, f := range frames {
			if err := wsutil.WriteClientText(c, f); err != nil {
				return err
			}
		}
		return nil
	}
	return w, nil
}

func readMessage(c net.Conn, in io.Reader, writing *sync.Mutex) ([]byte, error) {
	for {
		h, err := ws.ReadHeader(in)
		if err != nil {
			return nil, err
		}
		p := make([]byte, h.Length)
		if _, err := io.ReadFull(in, p); err != nil {
			return nil, err
		}
		switch h.OpCode {
		case ws.OpText:
			return p, nil
		case ws.OpPing:
			writing.Lock()
			err := wsutil.WriteClientMessage(c, ws.OpPong, p)
			writing.Unlock()
			if err != nil {
				return nil, err
			}
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(p)
			return nil, &closedError{int(code), reason}
		}
	}
}

// dialStream opens a stream of server-sent events; what is written goes in POSTs.
func dialStream(posts *http.Client, addr, cookie, page string, hello []byte, small bool) (*wire, error) {
	c, err := dialTCP(addr, small)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "POST /_guado/push HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nCookie: %s\r\nContent-Length: %d\r\n\r\n%s",
		addr, cookie, len(hello), hello)
	var answer *http.Response
	if err == nil {
		answer, err = http.ReadResponse(bufio.NewReaderSize(c, 512), nil) //nolint:bodyclose // the connection is closed
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer is %s", answer.Status)
	}
	if err != nil {
		_ = c.Close() // the handshake's error counts
		return nil, err
	}
	lines := bufio.NewReaderSize(answer.Body, 512)
	w, err := newWire(c, func() ([]byte, error) { return readEvent(lines) })
	if err != nil {
		return nil, err
	}
	w.send = func(frames ...[]byte) error {
		body := fmt.Appendf(nil, `{"t":"on","page":%q,"id":%d}`, page, w.id)
		for _, f := range frames {
			body = append(append(body, '\n'), f...)
		}
		return post(posts, addr, cookie, body)
	}
	return w, nil
}

func readEvent(lines *bufio.Reader) ([]byte, error) {
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		frame, found := bytes.CutPrefix(line, []byte("data: "))
		if !found {
			continue
		}
		frame = bytes.TrimRight(frame, "\n")
		if bytes.HasPrefix(frame, []byte(`{"t":"close"`)) {
			return nil, closeFrame(frame)
		}
		return frame, nil
	}
}

func closeFrame(frame []byte) error {
	var f struct {
		Code   int
		Reason string
	}
	if err := json.Unmarshal(frame, &f); err != nil {
		return err
	}
	return &closedError{f.Code, f.Reason}
}

var errPost = errors.New("a POST of frames failed")

// post sends frames beside a connection.
func post(client *http.Client, addr, cookie string, body []byte) error {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+addr+"/_guado/push", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Cookie", cookie)
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", errPost, err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // read to its end
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errPost, err)
	case answer.StatusCode == http.StatusNoContent:
		return nil
	case answer.StatusCode == http.StatusConflict:
		return closeFrame(text)
	}
	return fmt.Errorf("%w: %s %s", errPost, answer.Status, strings.TrimSpace(string(text)))
}
