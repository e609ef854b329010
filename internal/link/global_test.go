package link_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/guado-server/guado/internal/link"
)

// TestNothingOvertakesAnUpdateOfTheGlobalStore on a link that is full all the time: each
// request says after how many updates it was sent.
func TestNothingOvertakesAnUpdateOfTheGlobalStore(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		const messages, head = 3000, 60
		l, p := pair(t, link.Options{Transport: transport, Ring: 4096})
		random := rand.New(rand.NewPCG(1, 2))
		sent := make(chan uint64, 1)
		start := make(chan struct{})
		go func() {
			var updates uint64
			defer func() { sent <- updates }()
			for n := range messages {
				if n == head {
					close(start) // from now on the worker reads, slower than this
				}
				if random.IntN(3) == 0 {
					updates++
					update := append(binary.LittleEndian.AppendUint64(nil, updates), bytes.Repeat([]byte{'.'}, random.IntN(2000))...)
					if err := l.Global(update); err != nil {
						t.Error(err)
						return
					}
					continue
				}
				x := request("GET", "/")
				x.ID = string(binary.LittleEndian.AppendUint64(nil, updates))
				s, err := l.Open(x)
				if err == nil {
					err = s.Request(link.AppendRequest(nil, x, 0, true), true)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
			l.Ping(4711) // the last frame
		}()
		<-start
		var updates, partial uint64
		whole, requests := true, 0
		for done := false; !done; {
			f, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			switch f.Kind {
			case link.KindGlobal:
				if whole {
					partial = binary.LittleEndian.Uint64(f.Payload)
				}
				if whole = f.Flags&link.More == 0; whole {
					if updates++; partial != updates {
						t.Fatalf("update %d came after %d", partial, updates-1)
					}
				}
			case link.KindRequest:
				requests++
				at := bytes.IndexByte(f.Payload, 8) // the length of the id
				if at < 0 || binary.LittleEndian.Uint64(f.Payload[at+4:]) > updates {
					t.Fatalf("a request overtook update %d", updates+1)
				}
			case link.KindPing:
				done = true
			}
		}
		if all := <-sent; updates != all || requests == 0 {
			t.Errorf("%d updates of %d came, and %d requests", updates, all, requests)
		}
	})
}

func TestAWorkerThatReadsNoUpdatesIsEnded(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, _ := pair(t, link.Options{Transport: transport})
		megabyte := make([]byte, 1<<20)
		for range 80 {
			if l.Global(megabyte) != nil {
				break
			}
		}
		if err := l.Err(); err == nil || errors.Is(err, link.ErrClosed) {
			t.Errorf("the link goes on: %v", err)
		}
		if err := l.Global(nil); err == nil {
			t.Error("an update is taken")
		}
	})
}
