package link_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

var acceptHead = linktest.AppendCommit(nil, 101, "", -1, nil)

// accepted opens a stream whose WebSocket the worker has accepted.
func accepted(t *testing.T, l *link.Link, p *linktest.Peer) (c *client, id uint32) {
	t.Helper()
	c = open(t, l)
	c.s.BeSocket()
	c.request(false)
	id = next(t, p, link.KindRequest).Stream
	send(t, p, link.KindCommit, 0, id, 0, acceptHead)
	c.wait(func(f link.Frame) bool { return f.Kind == link.KindCommit && link.Accepts(f.Payload) })
	return c, id
}

// sendMessage sends all of a message as credit comes.
func (c *client) sendMessage(kind uint32, p []byte) error {
	for {
		rest, done, err := c.s.Message(kind, p)
		if done || err != nil {
			return err
		}
		p = rest
		<-c.x.Bell()
	}
}

func TestMessagesOfTheClientReachTheWorkerWithinItsCredit(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		const credit = 4096
		l, p := pair(t, link.Options{Transport: transport, RequestCredit: credit})
		c, id := accepted(t, l, p)
		sizes := []int{0, 1, credit - link.MessageCost, credit, 3 * credit, 50_000, 0, 0}
		sent := make(chan error, 1)
		go func() {
			for i, n := range sizes {
				if err := c.sendMessage(link.MessageText+uint32(i%2), bytes.Repeat([]byte{byte(i)}, n)); err != nil {
					sent <- err
					return
				}
			}
			c.s.Disconnect(4001, "bye")
			sent <- nil
		}()
		left := credit
		for i, n := range sizes {
			var got []byte
			for more := true; more; {
				f := next(t, p, link.KindMessage)
				more = f.Flags&link.More != 0
				cost := len(f.Payload)
				if !more {
					cost += link.MessageCost
				}
				if left -= cost; left < 0 || f.Arg != link.MessageText+uint32(i%2) || f.Stream != id {
					t.Fatalf("message %d: %d over the credit, kind %d", i, -left, f.Arg)
				}
				got = append(got, f.Payload...)
				send(t, p, link.KindCredit, 0, id, uint32(cost), nil)
				left += cost
			}
			if len(got) != n || n > 0 && got[n-1] != byte(i) {
				t.Fatalf("message %d has %d bytes, want %d", i, len(got), n)
			}
		}
		if f := next(t, p, link.KindDisconnect); f.Arg != 4001 || string(f.Payload) != "bye" || f.Flags != link.End {
			t.Fatalf("%+v", f)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.s.Message(link.MessageText, nil); !errors.Is(err, link.ErrEnded) {
			t.Errorf("a message behind the disconnect: %v", err)
		}
		send(t, p, link.KindAbort, 0, id, link.AbortCancelled, nil)
		freed := make(chan struct{})
		c.s.Abandon(func() { close(freed) })
		<-freed
		if err := l.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMessagesOfTheWorkerAreJoinedAndPaidFor(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		const credit = 4096
		l, p := pair(t, link.Options{Transport: transport, ResponseCredit: credit})
		c, id := accepted(t, l, p)
		send(t, p, link.KindMessageUp, 0, id, link.MessageBinary, nil)
		send(t, p, link.KindMessageUp, link.More, id, link.MessageText, []byte("one "))
		send(t, p, link.KindMessageUp, link.More, id, link.MessageText, []byte("two "))
		send(t, p, link.KindMessageUp, 0, id, link.MessageText, []byte("three"))
		var text strings.Builder
		c.wait(func(f link.Frame) bool {
			if f.Kind != link.KindMessageUp {
				return false
			}
			text.Write(f.Payload)
			cost := len(f.Payload)
			if f.Flags&link.More == 0 {
				cost += link.MessageCost
			}
			c.s.Credit(cost)
			return f.Arg == link.MessageText && f.Flags&link.More == 0
		})
		if text.String() != "one two three" {
			t.Errorf("got %q", text.String())
		}
		// All the credit comes back, however little each message is.
		granted := 0
		for range credit / link.MessageCost * 2 {
			send(t, p, link.KindMessageUp, 0, id, link.MessageText, nil)
			c.wait(func(f link.Frame) bool { return f.Kind == link.KindMessageUp })
			c.s.Credit(link.MessageCost)
			if granted -= link.MessageCost; granted < -credit/2 {
				granted += int(next(t, p, link.KindGrant).Arg)
			}
		}
		send(t, p, link.KindClose, link.End|link.Busy, id, 4000, []byte("done"))
		c.wait(func(f link.Frame) bool {
			return f.Kind == link.KindClose && f.Arg == 4000 && string(f.Payload) == "done"
		})
		send(t, p, link.KindDone, 0, id, 0, nil)
		freed := make(chan struct{})
		c.s.Abandon(func() { close(freed) })
		<-freed
	})
}

func TestWhatAWorkerMustNotSayOfAWebSocketEndsIt(t *testing.T) {
	for name, it := range map[string]struct {
		why  string
		send func(t *testing.T, p *linktest.Peer, id uint32)
	}{
		"a message of no kind": {"kind 3", func(t *testing.T, p *linktest.Peer, id uint32) {
			send(t, p, link.KindMessageUp, 0, id, 3, nil)
		}},
		"an empty part": {"goes on after nothing", func(t *testing.T, p *linktest.Peer, id uint32) {
			send(t, p, link.KindMessageUp, link.More, id, link.MessageText, nil)
		}},
		"a message with END": {"MESSAGE with END", func(t *testing.T, p *linktest.Peer, id uint32) {
			send(t, p, link.KindMessageUp, link.End, id, link.MessageText, nil)
		}},
		"CLOSE without END": {"CLOSE without END", func(t *testing.T, p *linktest.Peer, id uint32) {
			send(t, p, link.KindClose, 0, id, 1000, nil)
		}},
		"a long reason": {"reason of 124 bytes", func(t *testing.T, p *linktest.Peer, id uint32) {
			send(t, p, link.KindClose, link.End, id, 1000, make([]byte, 124))
		}},
		"a message behind CLOSE": {"MESSAGE after", func(t *testing.T, p *linktest.Peer, id uint32) {
			send(t, p, link.KindClose, link.End|link.Busy, id, 1000, nil)
			send(t, p, link.KindMessageUp, 0, id, link.MessageText, nil)
		}},
		"more than the credit": {"were granted", func(t *testing.T, p *linktest.Peer, id uint32) {
			for range 4096/link.MessageCost + 1 {
				send(t, p, link.KindMessageUp, 0, id, link.MessageText, nil)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, transport string) {
				l, p := pair(t, link.Options{Transport: transport, ResponseCredit: 4096})
				c, id := accepted(t, l, p)
				go func() { // a host that has stopped reading would hold the worker up
					<-l.Done()
					_ = p.Close() // the process is killed
				}()
				it.send(t, p, id)
				ended(t, l, it.why)
				c.s.Close()
			})
		})
	}
	t.Run("a message where no WebSocket was asked for", func(t *testing.T) {
		l, p := pair(t, link.Options{})
		c := open(t, l).request(true)
		id := next(t, p, link.KindRequest).Stream
		send(t, p, link.KindCommit, 0, id, 0, plainHead)
		send(t, p, link.KindMessageUp, 0, id, link.MessageText, nil)
		ended(t, l, "MESSAGE after the head")
		c.s.Close()
	})
}

func TestMessagesBehindADisconnectAreDroppedAndPaidFor(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		const credit = 4096
		l, p := pair(t, link.Options{Transport: transport, ResponseCredit: credit})
		c, id := accepted(t, l, p)
		c.s.Disconnect(1006, "")
		next(t, p, link.KindDisconnect)
		freed := make(chan struct{})
		c.s.Abandon(func() { close(freed) })
		left := credit
		for range 200 {
			for left < 164 {
				left += int(next(t, p, link.KindGrant).Arg)
			}
			send(t, p, link.KindMessageUp, 0, id, link.MessageText, make([]byte, 100))
			left -= 164
		}
		send(t, p, link.KindClose, link.End, id, 1000, nil)
		<-freed
		if err := l.Err(); err != nil {
			t.Fatal(err)
		}
	})
}
