package http1

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

func TestDrainClosesIdleConnectionsAndLetsOthersFinish(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		started, goOn := make(chan struct{}), make(chan struct{})
		r := serve(t, func(x *exchange.Exchange) {
			if string(x.Target) == "/wait" {
				close(started)
				<-goOn
			}
			echo(x)
		}, o)
		idle := r.dial()
		idle.send(get).expect(200, "GET / ")
		busy := r.dial().send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		<-started
		until(t, "one connection idles", func() bool { return r.Idle() == 1 })
		r.Drain()
		idle.closed()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := r.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait does not wait for the busy connection: %v", err)
		}
		close(goOn)
		if got := busy.expect(200, "GET /wait "); !got.Close {
			t.Error("the answer does not say Connection: close")
		}
		busy.closed()
		if err := r.Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A request that comes just as its connection is given up is answered, not reset.
func TestARequestThatMeetsTheEndOfItsConnectionIsAnswered(t *testing.T) {
	for name, o := range map[string]option{"tcp": limited(func(*lane.Limits) {}), "unix": overUnix} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, echo, o)
			c := r.dial()
			for range 20 {
				c.send(get).expect(200, "GET / ")
				until(t, "the connection idles", func() bool { return r.Idle() == 1 })
				r.mu.Lock()
				own := r.conns[0]
				r.mu.Unlock()
				// What expire does, with a request in the middle of it.
				own.mu.Lock()
				if !own.rd.flag(own.rd.load(), expiredFlag) {
					t.Fatal("the connection does not idle")
				}
				own.poked = true
				if err := own.nc.SetReadDeadline(past); err != nil {
					t.Fatal(err)
				}
				c.send("GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
				own.mu.Unlock()
				c.expect(200, "GET /late ")
			}
		})
	}
}

func TestTheSweeperEndsWithTheLastConnection(t *testing.T) {
	r := serve(t, echo)
	r.dial().send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect(200, "GET / ")
	until(t, "the sweeper parks", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.sweeper == nil
	})
	// And comes back with the next.
	c := r.dial()
	c.send(get).expect(200, "GET / ")
	if err := r.Wait(expired(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait gave %v", err)
	}
	_ = c.Close()
	if err := r.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	stacks := make([]byte, 1<<20)
	if all := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(all, "(*Server).sweep(") && strings.Contains(all, fmt.Sprintf("%p", r.Server)) {
		t.Errorf("a sweeper is left:\n%s", all)
	}
}

func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestAServerCountsItsConnections(t *testing.T) {
	r := serve(t, echo)
	a, b := r.dial(), r.dial()
	a.send(get).expect(200, "GET / ")
	b.send("nonsense\r\n").expect(400, "bad_request_line")
	until(t, "counted", func() bool { return r.Connections() == 1 || r.Connections() == 2 })
	if r.Accepted() != 2 || r.Refused() != 1 {
		t.Errorf("%d accepted, %d refused", r.Accepted(), r.Refused())
	}
}
