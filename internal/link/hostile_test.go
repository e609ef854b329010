package link_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// ended waits for the end of a link and checks that the worker was condemned for
// what why says.
func ended(t *testing.T, l *link.Link, why string) {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatalf("the worker was not condemned (%s)", why)
	}
	if err := l.Err(); !errors.Is(err, link.ErrCorrupt) || !strings.Contains(err.Error(), why) {
		t.Errorf("the link ended with %q, not for %q", err, why)
	}
	if _, err := l.Open(request("GET", "/")); !errors.Is(err, link.ErrCorrupt) {
		t.Errorf("opening a stream afterwards gives %v", err)
	}
}

// frame is a raw frame whose header may lie.
func frame(size uint32, kind, flags byte, zero uint16, stream, arg uint32, payload ...byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, size)
	b = append(b, kind, flags)
	b = le.AppendUint16(b, zero)
	b = le.AppendUint32(b, stream)
	b = le.AppendUint32(b, arg)
	b = append(b, payload...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestACorruptFrameEndsTheWorker(t *testing.T) {
	cases := []struct {
		name, why string
		frame     []byte
	}{
		{"size zero", "size 0", frame(0, 0x49, 0, 0, 0, 0)},
		{"size below a header", "size 15", frame(15, 0x49, 0, 0, 0, 0)},
		{"size over the largest frame", "size 131073", frame(131073, 0x49, 0, 0, 0, 0)},
		{"size of four billion", "size 4294967295", frame(1<<32-1, 0x49, 0, 0, 0, 0)},
		{"reserved bits", "reserved bits", frame(16, 0x49, 0, 1, 0, 0)},
		{"unknown flags", "unknown flags", frame(16, 0x49, 16, 0, 0, 0)},
		{"unknown kind", "kind 0x33", frame(16, 0x33, 0, 0, 0, 0)},
		{"a frame of the host's", "HELLO", frame(16, 0x01, 0, 0, 0, 0)},
		{"COMMIT on the link itself", "stream 0", frame(16, 0x42, 1, 0, 0, 0)},
		{"slot that does not exist", "cannot be", frame(16, 0x4d, 0, 0, 1<<16|16384, 0)},
		{"generation zero", "cannot be", frame(16, 0x4d, 0, 0, 5, 0)},
		{"READY twice", "twice", append(frame(18, 0x41, 0, 0, 0, 0, '{', '}'), frame(18, 0x41, 0, 0, 0, 0, '{', '}')...)},
		{"LOG of unknown level", "level 9", frame(16, 0x4a, 0, 0, 0, 9)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, transport string) {
				l, p := pair(t, link.Options{Transport: transport})
				if err := p.SendRaw(c.frame); err != nil {
					t.Fatal(err)
				}
				ended(t, l, c.why)
			})
		})
	}
}

var plainHead = linktest.AppendCommit(nil, 200, "OK", -1, nil)

// brokenLives are frames that are well-formed, each, and come at the wrong time.
var brokenLives = []struct {
	name, why string
	send      func(t *testing.T, p *linktest.Peer, id uint32)
}{
	{"body before the head", "RESPONSE_BODY before the head", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindResponseBody, 0, id, 0, []byte("x"))
	}},
	{"two heads", "COMMIT after the head", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
	}},
	{"body after the end", "RESPONSE_BODY after the exchange", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, link.End, id, 0, plainHead)
		_ = p.Send(link.KindResponseBody, 0, id, 0, []byte("x"))
	}},
	{"DONE without BUSY", "DONE after the exchange", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, link.End, id, 0, plainHead)
		send(t, p, link.KindDone, 0, id, 0, nil)
	}},
	{"BUSY without END", "BUSY and without END", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, link.Busy, id, 0, plainHead)
	}},
	{"trailers without END", "TRAILERS without END", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		send(t, p, link.KindTrailers, 0, id, 0, []byte{0, 0})
	}},
	{"a fragment of a body", "flags 0x02", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		send(t, p, link.KindResponseBody, link.More, id, 0, []byte("x"))
	}},
	{"a frame between fragments", "between fragments", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, link.More, id, 0, plainHead)
		send(t, p, link.KindInformational, 0, id, 0, linktest.AppendHead(nil, 103, "", -1))
	}},
	{"more body than was granted", "were granted", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		for range 5 {
			if p.Send(link.KindResponseBody, 0, id, 0, make([]byte, 64<<10)) != nil {
				return
			}
		}
	}},
	{"more body in the head than was granted", "were granted", func(t *testing.T, p *linktest.Peer, id uint32) {
		whole := linktest.AppendCommit(nil, 200, "OK", -1, make([]byte, 256<<10+1))
		for ; len(whole) > 100000; whole = whole[100000:] {
			send(t, p, link.KindCommit, link.More, id, 0, whole[:100000])
		}
		send(t, p, link.KindCommit, 0, id, 0, whole)
	}},
	{"a head that is cut", "head", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead[:10])
	}},
	{"FILE of a wrong size", "FILE of 8 bytes", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		send(t, p, link.KindFile, 0, id, 1, make([]byte, 8))
	}},
	{"FILE past the end of numbers", "FILE from", func(t *testing.T, p *linktest.Peer, id uint32) {
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		send(t, p, link.KindFile, 0, id, 1, linktest.FilePayload(1, 1<<63-1))
	}},
}

func TestAnAnswerThatBreaksItsLifeEndsTheWorker(t *testing.T) {
	for _, c := range brokenLives {
		t.Run(c.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, transport string) {
				l, p := pair(t, link.Options{Transport: transport})
				other := open(t, l) // opened, and nothing asked
				x := open(t, l).request(true)
				go func() { // a host that has stopped reading would hold the worker up
					<-l.Done()
					_ = p.Close() // the process is killed
				}()
				c.send(t, p, next(t, p, link.KindRequest).Stream)
				ended(t, l, c.why)
				until(t, "the bell", func() bool { return len(x.x.Bell()) > 0 })
				if err := x.s.Err(); !errors.Is(err, link.ErrCorrupt) {
					t.Errorf("the stream says %v", err)
				}
				if err := other.s.Request(nil, true); !errors.Is(err, link.ErrCorrupt) {
					t.Errorf("sending on the dead link gives %v", err)
				}
				x.s.Close()
				other.s.Close()
			})
		})
	}
}

// What is too much but breaks no rule is the application's doing: it costs that
// exchange and not the worker.
func TestAnAnswerThatIsTooMuchIsCut(t *testing.T) {
	cases := []struct {
		name  string
		times int
		send  func(p *linktest.Peer, id uint32) error
	}{
		{"a head that never ends", 25, func(p *linktest.Peer, id uint32) error {
			return p.Send(link.KindCommit, link.More, id, 0, make([]byte, 64<<10))
		}},
		{"a flood of early hints", 1100, func(p *linktest.Peer, id uint32) error {
			return p.Send(link.KindInformational, 0, id, 0, linktest.AppendHead(nil, 103, "", -1))
		}},
		{"early hints without measure", 25, func(p *linktest.Peer, id uint32) error {
			hint := linktest.Field{Name: "Link", Value: strings.Repeat("x", 60000)}
			return p.Send(link.KindInformational, 0, id, 0, linktest.AppendHead(nil, 103, "", -1, hint))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, transport string) {
				l, p := pair(t, link.Options{Transport: transport})
				x := open(t, l).request(true)
				id := next(t, p, link.KindRequest).Stream
				for range c.times {
					if err := c.send(p, id); err != nil {
						t.Fatal(err)
					}
				}
				next(t, p, link.KindCancel)
				send(t, p, link.KindAbort, 0, id, link.AbortCancelled, nil)
				x.wait(func(f link.Frame) bool { return f.Kind == link.KindAbort })
				x.s.Close()
				if err := l.Err(); err != nil {
					t.Errorf("the link ended: %v", err)
				}
			})
		})
	}
}

func TestAnAnswerToNoRequestEndsTheWorker(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		c := open(t, l)
		commit(t, p, c.s.ID(), link.End, "unasked")
		ended(t, l, "does not have")
		c.s.Close()
	})
}

func TestAConsumerCanRefuseWhatItCannotDecode(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		c := open(t, l).request(true)
		id := next(t, p, link.KindRequest).Stream
		split := linktest.Field{Name: "X", Value: "a\r\nSet-Cookie: admin=1"}
		send(t, p, link.KindCommit, link.End, id, 0, linktest.AppendCommit(nil, 200, "OK", 0, nil, split))
		_, err := c.tryRead()
		if !errors.Is(err, link.ErrCorrupt) {
			t.Fatalf("a field with a line break gives %v", err)
		}
		c.s.Refuse(err)
		ended(t, l, "CR, LF or NUL")
		c.s.Close()
	})
}

func TestCreditThatWasNeverSpentBuysNothing(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport, RequestCredit: 1000})
		c := open(t, l).request(false)
		id := next(t, p, link.KindRequest).Stream
		for range 10 {
			send(t, p, link.KindCredit, 0, id, 1<<32-1, nil)
		}
		settled(t, l, p)
		if n, err := c.s.Body(make([]byte, 1<<20), link.BodyMore); err != nil || n != 1000 {
			t.Errorf("took %d bytes with a credit of 1000: %v", n, err)
		}
		c.s.Close()
	})
}

// A worker that grants credit again and again and reads nothing: the ring is full, and
// behind it waits no more than one credit's worth.
func TestCreditWithoutReadingDoesNotFillTheHost(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		const credit, most = 4096, 8 << 20 // more than ring and socket buffers hold
		l, p := pair(t, link.Options{Transport: transport, Ring: 1 << 14, RequestCredit: credit})
		c := open(t, l).request(false)
		id := next(t, p, link.KindRequest).Stream
		taken := 0
		for taken < most {
			n, err := c.s.Body(make([]byte, credit), link.BodyMore)
			if err != nil {
				t.Fatal(err)
			}
			if taken += n; n == 0 {
				break
			}
			send(t, p, link.KindCredit, 0, id, credit, nil)
			settled(t, l, p)
		}
		if taken >= most {
			t.Errorf("the host keeps %d bytes of one body for a worker that does not read", taken)
		}
		c.s.Close()
	})
}

func TestAFloodOfLogsIsBoundedAndCounted(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		release := make(chan struct{})
		var bytes atomic.Int64
		said := make(chan string, 1)
		l.Logs(nil, func(m link.LogMessage) {
			<-release
			bytes.Add(int64(len(m.Text)))
			if strings.Contains(m.Text, "were dropped") {
				said <- m.Text
			}
		})
		for range 200 {
			send(t, p, link.KindLog, 0, 0, link.LogInfo, make([]byte, 60000))
		}
		settled(t, l, p) // the reader did not wait for the log
		close(release)
		select {
		case <-said:
		case <-time.After(patience):
			t.Fatal("nothing was said of the dropped messages")
		}
		if kept := bytes.Load(); kept > 3<<20 {
			t.Errorf("%d bytes of log were kept", kept)
		}
	})
}
