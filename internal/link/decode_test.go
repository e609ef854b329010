package link_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

func TestDecodingAHeadAllocatesNothing(t *testing.T) {
	p := linktest.AppendCommit(nil, 200, "OK", 5, []byte("hello"),
		linktest.Field{Name: "Content-Type", Value: "text/html"}, linktest.Field{Name: "Set-Cookie", Value: "a=1"})
	fields := make([]exchange.Field, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		h, _, err := link.DecodeHead(p, fields)
		if err != nil {
			t.Fatal(err)
		}
		fields = h.Fields
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever a worker sends decodes or is refused as corrupt, and what decodes can be
// written to a client: no field of it can end a line.
func FuzzDecodeHead(f *testing.F) {
	for _, v := range vectorHeads() {
		for _, frame := range v.all("frame") {
			raw, err := hex.DecodeString(frame[0])
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw[16:])
		}
	}
	f.Add(linktest.AppendCommit(nil, 200, "OK", 5, []byte("hello"), linktest.Field{Name: "A", Value: "b"}))
	f.Add(linktest.AppendHead(nil, 103, "", -1))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, body, err := link.DecodeHead(p, nil)
		if err != nil {
			if !errors.Is(err, link.ErrCorrupt) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if h.Status < 100 || h.Status > 999 || h.Length < -1 || len(body) > len(p) {
			t.Errorf("decoded to %+v and %d bytes", h, len(body))
		}
		check(t, h.Fields)
	})
}

func FuzzDecodeTrailers(f *testing.F) {
	f.Add(linktest.AppendFields([]byte{1, 0}, linktest.Field{Name: "A", Value: "b"}))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		fields, err := link.DecodeTrailers(p, nil)
		if err != nil {
			if !errors.Is(err, link.ErrCorrupt) {
				t.Errorf("refused with %v", err)
			}
			return
		}
		check(t, fields)
	})
}

func check(t *testing.T, fields []exchange.Field) {
	t.Helper()
	for _, f := range fields {
		if len(f.Name) == 0 {
			t.Error("a field has no name")
		}
		for _, b := range [][]byte{f.Name, f.Value} {
			for _, c := range b {
				if c == '\r' || c == '\n' || c == 0 {
					t.Errorf("field %q: %q ends a line", f.Name, f.Value)
				}
			}
		}
	}
}

// FuzzFrames gives a link whatever bytes a worker may write, while exchanges are
// open: it files them, drops them, or ends the worker.
func FuzzFrames(f *testing.F) {
	id := uint32(1 << 16)
	head := linktest.AppendCommit(nil, 200, "OK", -1, []byte("x"))
	f.Add(linktest.AppendFrame(nil, link.KindCommit, link.End, id, 0, head))
	f.Add(linktest.AppendFrame(linktest.AppendFrame(nil, link.KindCommit, link.More, id, 0, head[:9]), link.KindCommit, 0, id, 0, head[9:]))
	f.Add(linktest.AppendFrame(linktest.AppendFrame(nil, link.KindCommit, 0, id, 0, head), link.KindFile, link.End, id, 1, linktest.FilePayload(0, 1)))
	f.Add(linktest.AppendFrame(linktest.AppendFrame(nil, link.KindLog, link.More, 0, 1, []byte("a")), link.KindPong, 0, 0, 1, nil))
	f.Add(linktest.AppendFrame(nil, link.KindReady, 0, 0, 0, []byte("{}")))
	accept := linktest.AppendFrame(nil, link.KindCommit, 0, id|1, 0, acceptHead)
	f.Add(linktest.AppendFrame(bytes.Clone(accept), link.KindMessageUp, 0, id|1, link.MessageText, []byte("a")))
	f.Add(linktest.AppendFrame(linktest.AppendFrame(accept, link.KindMessageUp, link.More, id|1, link.MessageBinary, []byte("a")), link.KindClose, link.End, id|1, 1000, nil))
	f.Add(make([]byte, 16))
	call := callPayload(link.CallHost, 0, "push", []byte("{}"))
	effect := append([]byte{1, 0, 0, 0, 7, 0, 0, 0, byte(len(call)), 0, 0, 0}, call...)
	f.Add(linktest.AppendFrame(nil, link.KindState, link.Alone, 0, 0, append([]byte("state|"), effect...)))
	parts := linktest.AppendFrame(nil, link.KindState, link.More, id, 0, []byte("sta"))
	parts = linktest.AppendFrame(parts, link.KindState, 0, id, 0, []byte("te"+noEffects))
	f.Add(linktest.AppendFrame(parts, link.KindCommit, link.End, id, 0, head))
	f.Add(linktest.AppendFrame(nil, link.KindState, 0, id, 0, []byte("refused"+noEffects)))
	f.Add(linktest.AppendFrame(linktest.AppendFrame(nil, link.KindCall, link.More, 0, 7, call[:9]), link.KindCall, 0, 0, 7, call[9:]))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for len(raw)%8 != 0 {
			raw = append(raw, 0)
		}
		if len(raw) > 2048 {
			t.Skip("does not fit the ring at once")
		}
		for _, transport := range transports() {
			l, p := pair(t, link.Options{Transport: transport, Ring: 1 << 14, Slots: 4})
			l.Keep(&keeper{refuse: "refused"})
			c := open(t, l).request(true)
			socket := open(t, l)
			socket.s.BeSocket()
			socket.request(false)
			if len(raw) > 0 {
				if err := p.SendRaw(raw); err != nil {
					t.Fatal(err)
				}
			}
			l.ProcessExited()
			<-l.Done()
			for _, fr := range c.s.Take(nil) {
				if fr.File != nil {
					t.Error("a file came from nowhere")
				}
				if fr.Kind == link.KindCommit {
					_, _, _ = link.DecodeHead(fr.Payload, nil) // must not panic
				}
			}
			socket.s.Take(nil)
			socket.s.Close()
			c.s.Close()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			_ = p.Close() // over shared memory it has nothing to say
		}
	})
}
