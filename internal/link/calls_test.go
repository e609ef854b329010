package link_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// callee collects what a worker calls.
type callee struct {
	calls     chan link.Call
	ids       chan uint32
	cancelled chan uint32
	ended     chan struct{}
}

func (c *callee) Call(id uint32, call link.Call) {
	c.ids <- id
	c.calls <- call
}
func (c *callee) Cancel(id uint32) { c.cancelled <- id }
func (c *callee) End()             { close(c.ended) }

func listen(l *link.Link) *callee {
	c := &callee{calls: make(chan link.Call, 16), ids: make(chan uint32, 16), cancelled: make(chan uint32, 16), ended: make(chan struct{})}
	l.Calls(c)
	return c
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// callPayload is CALL as protocol/link.md has it.
func callPayload(what uint16, timeout uint32, name string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, what)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(name)))
	b = binary.LittleEndian.AppendUint32(b, timeout)
	return append(append(b, name...), data...)
}

// sendCall sends a CALL in as many fragments as it takes.
func sendCall(t *testing.T, p *linktest.Peer, id uint32, b []byte) {
	t.Helper()
	most := p.MaxFrame() - 16
	for len(b) > most {
		send(t, p, link.KindCall, link.More, 0, id, b[:most])
		b = b[most:]
	}
	send(t, p, link.KindCall, 0, 0, id, b)
}

func TestACallReachesTheCalleeAndItsReplyTheWorker(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		c := listen(l)
		large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
		for id, data := range map[uint32][]byte{7: []byte("small"), 1<<32 - 1: large, 0: nil} {
			sendCall(t, p, id, callPayload(link.CallExecute, 1500, "cpu", data))
			got := receive(t, c.calls)
			if receive(t, c.ids) != id || got.What != link.CallExecute || got.Name != "cpu" || got.TimeoutMS != 1500 || !bytes.Equal(got.Data, data) {
				t.Errorf("call %d: %d bytes for %q", id, len(got.Data), got.Name)
			}
		}
		send(t, p, link.KindCallCancel, 0, 0, 7, nil)
		if id := receive(t, c.cancelled); id != 7 {
			t.Errorf("cancelled %d", id)
		}
		go func() {
			if err := l.Reply(9, 503, "queue_full", large); err != nil {
				t.Error(err)
			}
		}()
		var reply []byte
		for {
			f, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Kind == link.KindPing {
				break // behind the reply
			}
			if f.Kind != link.KindReply || f.Arg != 9 || f.Stream != 0 {
				t.Fatalf("frame %v", f.Kind)
			}
			reply = append(reply, f.Payload...)
		}
		want := append([]byte{0xf7, 0x01, 10, 0, 0, 0, 0, 0}, "queue_full"...)
		if !bytes.Equal(reply, append(want, large...)) {
			t.Errorf("a reply of %d bytes: %q…", len(reply), reply[:min(len(reply), 30)])
		}
	})
}

func TestTheCalleeHearsOfTheEndOfTheLink(t *testing.T) {
	l, _ := pair(t, link.Options{})
	c := listen(l)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	receive(t, c.ended)
	if l.Reply(1, 200, "", nil) == nil {
		t.Error("a reply went nowhere without an error")
	}
}

func TestACallThatIsTooLargeIsDroppedAndToldSo(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.Socket})
	c := listen(l)
	chunk := make([]byte, p.MaxFrame()-16)
	copy(chunk, callPayload(link.CallExecute, 0, "cpu", nil))
	for sent := 0; sent <= 64<<20; sent += len(chunk) {
		send(t, p, link.KindCall, link.More, 0, 5, chunk)
	}
	send(t, p, link.KindCall, 0, 0, 5, nil)
	if got := receive(t, c.calls); !got.TooLarge || got.Data != nil || got.Name != "cpu" {
		t.Errorf("%q: %d bytes", got.Name, len(got.Data))
	}
	sendCall(t, p, 6, callPayload(link.CallExecute, 0, "cpu", []byte("x")))
	if got := receive(t, c.calls); got.TooLarge || string(got.Data) != "x" {
		t.Errorf("the next one: %+v", got)
	}
}

func TestACallThatCannotBeEndsTheWorker(t *testing.T) {
	for name, c := range map[string]struct {
		why    string
		frames []byte
	}{
		"too short":           {"CALL of 3 bytes", frame(19, 0x4f, 0, 0, 0, 1, 1, 0, 0)},
		"name beyond its end": {"with a name of 9", frame(24, 0x4f, 0, 0, 0, 1, 1, 0, 9, 0, 0, 0, 0, 0)},
		"interleaved":         {"between fragments", append(frame(16, 0x4f, 2, 0, 0, 1), frame(16, 0x4f, 0, 0, 0, 2)...)},
		"with END":            {"flags", frame(24, 0x4f, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)},
		"a reply":             {"REPLY", frame(24, 0x10, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, transport string) {
				l, p := pair(t, link.Options{Transport: transport})
				listen(l)
				if err := p.SendRaw(c.frames); err != nil {
					t.Fatal(err)
				}
				ended(t, l, c.why)
			})
		})
	}
}
