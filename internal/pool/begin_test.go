package pool_test

import (
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

// waker says when the exchange rang.
type waker chan struct{}

func (w waker) Wake() { w <- struct{}{} }

// aTurn makes a turn whose first ring is told.
func aTurn(data string) (*exchange.Exchange, *exchange.Collected, waker) {
	x, c, w := exchange.New(), &exchange.Collected{Limit: 1 << 20}, make(waker, 1)
	x.ID, x.Method, x.Body, x.Received = "turn-1", "POST", exchange.BodyOf(nil), time.Now()
	x.Turn = &exchange.Turn{Do: exchange.TurnRequest, Page: "page", Class: "Board", Data: []byte(data)}
	x.Answer = c
	x.Sleep(w)
	return x, c, w
}

// turned answers a turn with its own data.
func turned(_ *worker, r *linktest.Request) {
	if r.Turn == nil {
		_ = r.Reply(500, []byte("no turn")) // the test sees it
		return
	}
	_ = r.Reply(200, r.Turn.Data) // the host may have ended
}

func TestATurnIsServedWithoutAGoroutineThatWaits(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 2}, pool.AppOptions{Name: "app"})
		r.attach(transport, "wsgi", 2, turned)
		for _, data := range []string{`"a"`, `{"b":1}`} {
			x, c, rang := aTurn(data)
			b := r.app.Begin(x)
			if b == nil {
				t.Fatal("there is a free thread, and the turn was not begun")
			}
			receive(t, "the ring", (<-chan struct{})(rang))
			b.Land()
			if c.Status != 200 || string(c.Body) != data || c.Err != nil || c.Refused != nil {
				t.Errorf("answer %d %q, %v, %v", c.Status, c.Body, c.Err, c.Refused)
			}
		}
		if w := r.pool.Status().Workers[0]; w.WSGI != 0 {
			t.Errorf("%d seats are still taken", w.WSGI)
		}
	})
}

func TestATurnIsNotBegunWhereItWouldHaveToWait(t *testing.T) {
	r := newRig(t, pool.Options{Threads: 1, Workers: 2}, pool.AppOptions{Name: "app"})
	if x, _, _ := aTurn(`1`); r.app.Begin(x) != nil {
		t.Error("begun without a worker")
	}
	r.attach(transports()[len(transports())-1], "wsgi", 1, turned)
	get, _, _ := aTurn(`1`)
	get.Turn = nil
	if r.app.Begin(get) != nil {
		t.Error("a request was begun")
	}
	r.pool.Stop()
	if x, _, _ := aTurn(`1`); r.app.Begin(x) != nil {
		t.Error("begun when the pool was stopped")
	}
}

func TestABegunTurnWhoseWorkerDiesBeforeItsStartIsServedByTheNext(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app"})
		g := newGate(t)
		first := r.attach(transport, "wsgi", 1, g.handler)
		started, lost, _ := aTurn(`1`)
		begun := r.app.Begin(started)
		receive(t, "a turn at the application", g.arrived)
		x, c, rang := aTurn(`2`)
		waits := r.app.Begin(x) // in the ring of the only worker
		if begun == nil || waits == nil {
			t.Fatal("the turns were not begun")
		}
		first.kill()
		receive(t, "the ring", (<-chan struct{})(rang))
		r.attach(transport, "wsgi", 1, turned)
		waits.Land()
		if c.Status != 200 || string(c.Body) != "2" {
			t.Errorf("the one that had not started: %d %q, %v", c.Status, c.Body, c.Refused)
		}
		begun.Land()
		if lost.Refused == nil || lost.Refused.Code != "worker_died" {
			t.Errorf("the one that had: %d %v", lost.Status, lost.Refused)
		}
	})
}

func TestABegunTurnThatNobodyWantsAnyMoreIsCancelled(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app"})
		why := make(chan uint32, 1)
		arrived := make(chan struct{})
		r.attach(transport, "wsgi", 1, func(_ *worker, q *linktest.Request) {
			close(arrived)
			why <- q.WaitCancelled()
		})
		x, c, rang := aTurn(`1`)
		b := r.app.Begin(x)
		if b == nil {
			t.Fatal("the turn was not begun")
		}
		receive(t, "the turn at the application", arrived)
		x.SetGone(exchange.Closed)
		receive(t, "the ring", (<-chan struct{})(rang))
		b.Land()
		if c.Status != 0 || c.Err == nil {
			t.Errorf("%d %v", c.Status, c.Err)
		}
		if got := receive(t, "the cancellation", why); got != 1 {
			t.Errorf("cancelled because of %d", got)
		}
	})
}

func TestABegunTurnHasItsDeadline(t *testing.T) {
	r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app", Timeout: 50 * time.Millisecond})
	interrupted := make(chan struct{})
	r.attach(transports()[0], "wsgi", 1, func(_ *worker, q *linktest.Request) {
		q.WaitCancelled()
		if q.Interrupted() {
			close(interrupted)
		}
	})
	x, c, rang := aTurn(`1`)
	b := r.app.Begin(x)
	if b == nil {
		t.Fatal("the turn was not begun")
	}
	receive(t, "the ring", (<-chan struct{})(rang))
	b.Land()
	if c.Refused == nil || c.Refused.Status != 504 {
		t.Errorf("%d %v", c.Status, c.Refused)
	}
	receive(t, "the interrupt", interrupted)
}
