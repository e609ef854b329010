package websocket

import (
	"bytes"
	"io"
	"net"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/internal/exchange"
)

// judge checks what a handler is given.
type judge struct {
	t    *testing.T
	most int
	ends int
}

func (j *judge) Message(text bool, p []byte) {
	if len(p) > j.most {
		j.t.Errorf("a message of %d bytes", len(p))
	}
	if text && !utf8.Valid(p) {
		j.t.Errorf("text %q", p)
	}
}
func (j *judge) Drained()                  {}
func (j *judge) Closed(exchange.SocketEnd) { j.ends++ }

// FuzzReader gives a socket whatever bytes a client may send: it hands over messages
// within the limits, and ends.
func FuzzReader(f *testing.F) {
	frame := func(h ws.Frame) []byte {
		b, err := ws.CompileFrame(ws.MaskFrame(h))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	packed := ws.NewTextFrame([]byte{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}) // "Hello", RFC 7692, 7.2.3.1
	packed.Header.Rsv = ws.Rsv(true, false, false)
	f.Add(frame(ws.NewTextFrame([]byte("città"))))
	f.Add(append(frame(ws.NewFrame(ws.OpText, false, []byte("a"))), frame(ws.NewFrame(ws.OpContinuation, true, []byte("b")))...))
	f.Add(append(frame(ws.NewPingFrame([]byte("p"))), frame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "bye")))...))
	f.Add(frame(packed))
	f.Add([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New(Options{})
		j := &judge{t: t, most: 1000}
		k := newSocket(s, &Limits{Message: j.most, Fragments: 10, Waiting: 1 << 20}, j)
		k.deflate = 1 << 15
		if p := s.enter(k); p != nil {
			t.Fatal(p)
		}
		client, server := net.Pipe()
		k.adopt(server, data, nil)
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			_, _ = io.Copy(io.Discard, client) // until the socket closes
		}()
		half := len(data) / 2
		k.reader.early = bytes.Clone(data[:half])
		go func() {
			_, _ = client.Write(data[half:]) // it may be cut
			_ = client.Close()
		}()
		s.begin()
		k.run()
		<-heard
		s.Close()
		if j.ends != 1 {
			t.Errorf("the handler heard of %d ends", j.ends)
		}
	})
}
