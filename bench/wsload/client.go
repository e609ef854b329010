package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// client is one WebSocket, and what a client of push must know. It reads into a buffer of
// a few hundred bytes: thousands of them are open.
type client struct {
	conn net.Conn
	push bool
	in   [512]byte
	r, w int
	out  []byte
	big  []byte // a message over the buffer

	sent  uint64        // number of its last message
	last  atomic.Uint64 // number of the last frame
	acked uint64
}

var dialer = net.Dialer{Timeout: patience}

// dial opens one connection; a session of push when asked.
func dial(o *options) (*client, error) {
	var page, cookie string
	path := o.path
	if o.push {
		var err error
		if page, cookie, err = newPage(o); err != nil {
			return nil, err
		}
		path = "/_guado/push"
	}
	conn, err := dialer.DialContext(context.Background(), "tcp", o.addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, push: o.push}
	if err := c.handshake(o.addr, path, cookie); err != nil {
		_ = conn.Close() // the handshake's error counts
		return nil, err
	}
	if !o.push {
		return c, nil
	}
	err = c.write(fmt.Appendf(nil, `{"t":"hello","v":1,"page":%q,"client":"bench"}`, page))
	if err == nil {
		var p []byte
		if p, err = c.read(); err == nil && !bytes.HasPrefix(p, []byte(`{"t":"hello"`)) {
			err = fmt.Errorf("the host's hello is %q", p)
		}
	}
	if err != nil {
		_ = conn.Close() // likewise
	}
	return c, err
}

var pages = http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: dialers}}

// newPage asks for a page, as its own browser.
func newPage(o *options) (page, cookie string, err error) {
	body, err := json.Marshal(map[string]string{"path": "/", "class": "Bench"})
	if err != nil {
		return "", "", err
	}
	res, err := pages.Post("http://"+o.addr+"/_guado/page", "application/json", bytes.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return "", "", err
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // read to its end
	if err != nil {
		return "", "", err
	}
	var answer struct{ Page string }
	if err := json.Unmarshal(text, &answer); err != nil || answer.Page == "" {
		return "", "", fmt.Errorf("asked for a page: %s: %s", res.Status, text)
	}
	for _, k := range res.Cookies() {
		cookie = k.Name + "=" + k.Value
	}
	return answer.Page, cookie, nil
}

// handshake is that of RFC 6455; the key is not looked at again.
func (c *client) handshake(host, path, cookie string) error {
	head := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if cookie != "" {
		head += "Cookie: " + cookie + "\r\n"
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, head+"\r\n"); err != nil {
		return err
	}
	var answer []byte
	for !bytes.Contains(answer, []byte("\r\n\r\n")) {
		if err := c.fill(); err != nil {
			return fmt.Errorf("handshake: %w after %q", err, answer)
		}
		// Frames may follow at once: only the head is taken.
		for c.r < c.w && !bytes.HasSuffix(answer, []byte("\r\n\r\n")) {
			answer = append(answer, c.in[c.r])
			c.r++
		}
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101")) {
		return fmt.Errorf("handshake: %q", answer)
	}
	return c.conn.SetDeadline(time.Time{})
}

func (c *client) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.in) {
		c.w = copy(c.in[:], c.in[c.r:c.w])
		c.r = 0
	}
	n, err := c.conn.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// need waits for n bytes in the buffer.
func (c *client) need(n int) error {
	for c.w-c.r < n {
		if c.r+n > len(c.in) {
			c.w = copy(c.in[:], c.in[c.r:c.w])
			c.r = 0
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

var errClosed = errors.New("the server closed a WebSocket")

// read gives the next message; its bytes are valid until the next call.
func (c *client) read() ([]byte, error) {
	for {
		op, p, err := c.frame()
		if err != nil {
			return nil, err
		}
		switch op {
		case 1, 2:
			return p, nil
		case 8:
			return nil, fmt.Errorf("%w: %q", errClosed, p)
		case 9:
			if err := c.send(10, p); err != nil {
				return nil, err
			}
		}
	}
}

func (c *client) frame() (op byte, p []byte, err error) {
	if err := c.need(2); err != nil {
		return 0, nil, err
	}
	op = c.in[c.r] & 15
	n, head := int(c.in[c.r+1]&127), 2
	if n >= 126 {
		head = 4
		if n == 127 {
			head = 10
		}
		if err := c.need(head); err != nil {
			return 0, nil, err
		}
		if n == 126 {
			n = int(binary.BigEndian.Uint16(c.in[c.r+2:]))
		} else {
			n = int(binary.BigEndian.Uint64(c.in[c.r+2:])) //nolint:gosec // a benchmark's server is trusted
		}
	}
	if head+n <= len(c.in) {
		if err := c.need(head + n); err != nil {
			return 0, nil, err
		}
		p = c.in[c.r+head : c.r+head+n]
		c.r += head + n
		return op, p, nil
	}
	c.r += head
	c.big = append(c.big[:0], make([]byte, n)...)
	had := copy(c.big, c.in[c.r:c.w])
	c.r += had
	_, err = io.ReadFull(c.conn, c.big[had:])
	return op, c.big, err
}

func (c *client) write(p []byte) error { return c.send(1, p) }

// send writes a frame of less than 64 KiB, with a mask that changes nothing: a benchmark
// needs no secrets.
func (c *client) send(op byte, p []byte) error {
	c.out = append(c.out[:0], 0x80|op)
	if len(p) < 126 {
		c.out = append(c.out, 0x80|byte(len(p)))
	} else {
		c.out = binary.BigEndian.AppendUint16(append(c.out, 0x80|126), uint16(len(p))) //nolint:gosec // see above
	}
	c.out = append(append(c.out, 1, 2, 3, 4), p...)
	body := c.out[len(c.out)-len(p):]
	for i := range body {
		body[i] ^= byte(i&3) + 1
	}
	_, err := c.conn.Write(c.out)
	return err
}

// roundTrip sends a message and waits until it is back.
func (c *client) roundTrip(text string) error {
	if !c.push {
		if err := c.write([]byte(text)); err != nil {
			return err
		}
		p, err := c.read()
		if err == nil && string(p) != text {
			err = fmt.Errorf("%q came back for %q", p, text)
		}
		return err
	}
	c.sent++
	if err := c.write(fmt.Appendf(nil, `{"c":%d,"a":%d,"q":%q}`, c.sent, c.last.Load(), text)); err != nil {
		return err
	}
	want := `"r":` + strconv.FormatUint(c.sent, 10) + ","
	for {
		p, err := c.numbered()
		if err != nil {
			return err
		}
		rest, found := bytes.CutPrefix(p, []byte(want))
		if !found {
			continue
		}
		if string(rest) != `"d":"`+text+`"}` {
			return fmt.Errorf("the reply is %s", rest)
		}
		return nil
	}
}

// numbered gives the next frame that has a number, without it.
func (c *client) numbered() ([]byte, error) {
	for {
		p, err := c.read()
		if err != nil {
			return nil, err
		}
		rest, found := bytes.CutPrefix(p, []byte(`{"n":`))
		if !found {
			if string(p) == "{}" {
				if err := c.write(fmt.Appendf(nil, `{"a":%d}`, c.last.Load())); err != nil {
					return nil, err
				}
			}
			continue
		}
		number, rest, _ := bytes.Cut(rest, []byte(","))
		n, err := strconv.ParseUint(string(number), 10, 64)
		if err != nil || n != c.last.Load()+1 {
			return nil, fmt.Errorf("frame %s came after %d", number, c.last.Load())
		}
		c.last.Store(n)
		return rest, nil
	}
}

// message waits for a message of the server.
func (c *client) message() error {
	if !c.push {
		_, err := c.read()
		return err
	}
	for {
		p, err := c.numbered()
		if err != nil || strings.HasPrefix(string(p), `"m":`) {
			return err
		}
	}
}

// acknowledge tells the host of push what has come. Nothing else may be written meanwhile.
func (c *client) acknowledge() error {
	n := c.last.Load()
	if !c.push || n == c.acked {
		return nil
	}
	c.acked = n
	return c.write(fmt.Appendf(nil, `{"a":%d}`, n))
}

// trigger is a connection for requests.
type trigger struct {
	c    *client
	head string
}

func newTrigger(o *options) (*trigger, error) {
	conn, err := dialer.DialContext(context.Background(), "tcp", o.addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(10 * patience)); err != nil {
		return nil, err
	}
	head := "GET /broadcast?size=" + strconv.Itoa(o.size) + " HTTP/1.1\r\nHost: " + o.addr + "\r\n\r\n"
	return &trigger{&client{conn: conn}, head}, nil
}

func (t *trigger) send() error {
	_, err := io.WriteString(t.c.conn, t.head)
	return err
}

// answer reads the answer, whose body is "ok".
func (t *trigger) answer() error {
	var all []byte
	for !bytes.HasSuffix(all, []byte("\r\n\r\nok")) {
		if err := t.c.fill(); err != nil {
			return fmt.Errorf("asked for a broadcast: %w after %q", err, all)
		}
		all = append(all, t.c.in[t.c.r:t.c.w]...)
		t.c.r = t.c.w
	}
	if !bytes.HasPrefix(all, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("asked for a broadcast: %q", all)
	}
	return nil
}

func (t *trigger) close() { _ = t.c.conn.Close() }
