package pool_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

// gate holds handlers until it is opened, and tells of each that arrived.
type gate struct {
	arrived chan *linktest.Request
	open    chan struct{}
	once    sync.Once
}

func newGate(t *testing.T) *gate {
	g := &gate{arrived: make(chan *linktest.Request, 1000), open: make(chan struct{})}
	t.Cleanup(g.release) // before the workers' own cleanup, which waits for nobody
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

func (g *gate) handler(w *worker, q *linktest.Request) {
	g.arrived <- q
	select {
	case <-g.open:
	case <-w.dead:
		return
	}
	w.reply(q, 200, string(q.Inline))
}

// send starts n requests and gives their answers as they come.
func (r *rig) send(n int, body func(i int) string) <-chan reply {
	answers := make(chan reply, n)
	c := client()
	for i := range n {
		go func() { answers <- r.do(c, http.MethodPost, fmt.Sprintf("/%d", i), body(i)) }()
	}
	return answers
}

func none(int) string { return "" }

func TestAFullQueueRefusesAtOnceAndSaysWhenToComeBack(t *testing.T) {
	r := newRig(t, pool.Options{Queue: 3, Concurrency: 1}, pool.AppOptions{Name: "app"})
	g := newGate(t)
	r.attach(link.SharedMemory, "asgi", 0, g.handler)
	first := r.send(1, none)
	receive(t, "the first request at the application", g.arrived)
	waiting := r.send(3, none)
	eventually(t, "three requests wait", func() bool { return r.pool.Status().Waiting == 3 })
	got := r.do(client(), "GET", "/late", "")
	if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "queue_full") {
		t.Errorf("got %+v", got)
	}
	g.release()
	for range 3 {
		if got := receive(t, "an answer to one that waited", waiting); got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
	receive(t, "the first answer", first)
	if n := r.pool.Status().Counters.Refused; n != 1 {
		t.Errorf("refused %d", n)
	}
}

func TestWhoWaitsTooLongIsRefusedAlsoWhenItWasSentAhead(t *testing.T) {
	for _, kind := range []string{"wsgi", "asgi"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, pool.Options{Threads: 1, Concurrency: 1, QueueWait: 300 * time.Millisecond}, pool.AppOptions{Name: "app"})
			g := newGate(t)
			w := r.attach(link.SharedMemory, kind, 1, g.handler)
			first := r.send(1, none)
			receive(t, "the first request at the application", g.arrived)
			for range 3 {
				got := receive(t, "an answer to one that waited", r.send(1, none))
				if got.status != 503 || !strings.Contains(got.body, "queue_wait") || got.header.Get("Retry-After") == "" {
					t.Errorf("got %+v", got)
				}
			}
			g.release()
			if got := receive(t, "the first answer", first); got.status != 200 {
				t.Errorf("got %+v", got)
			}
			if got := r.do(client(), "GET", "/", ""); got.status != 200 || w.started.Load() != 2 {
				t.Errorf("got %+v, %d calls: a refused request must never be run", got, w.started.Load())
			}
		})
	}
}

func TestARequestOverItsDeadlineGets504AndIsInterrupted(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		interrupted := make(chan *link.Link, 10)
		o := pool.Options{Threads: 1, Interrupted: func(l *link.Link) { interrupted <- l }}
		r := newRig(t, o, pool.AppOptions{Name: "app", Timeout: 200 * time.Millisecond})
		reasons := make(chan uint32, 10)
		w := r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
			if q.Path == "/quick" {
				w.reply(q, 200, "quick")
				return
			}
			reasons <- q.WaitCancelled()
			if !q.Interrupted() {
				t.Error("it was only cancelled")
			}
			if err := w.peer.Send(link.KindAbort, 0, q.Stream, link.AbortCancelled, nil); err != nil {
				t.Error(err)
			}
		})
		began := time.Now()
		got := r.do(client(), "GET", "/slow", "")
		if got.status != 504 || !strings.Contains(got.body, "deadline") || time.Since(began) < 200*time.Millisecond {
			t.Errorf("got %+v after %v", got, time.Since(began))
		}
		if reason := receive(t, "CANCEL", reasons); reason != link.CancelDeadline {
			t.Errorf("CANCEL %d", reason)
		}
		if l := receive(t, "the news of it", interrupted); l != w.link {
			t.Error("another worker is to be replaced")
		}
		if got := r.do(client(), "GET", "/quick", ""); got.status != 200 {
			t.Errorf("got %+v: the thread must be free again", got)
		}
		if w.started.Load() != 2 {
			t.Errorf("%d calls", w.started.Load())
		}
	})
}

func TestADeadlineEndsWithTheHead(t *testing.T) {
	r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Timeout: 100 * time.Millisecond})
	r.attach(link.SharedMemory, "wsgi", 1, func(w *worker, q *linktest.Request) {
		if err := errors.Join(q.Head(200, -1), q.Write([]byte("one "), 0)); err != nil {
			t.Error(err)
		}
		time.Sleep(500 * time.Millisecond) // longer than the deadline: the absence of an event is tested
		if err := q.Write([]byte("two"), link.End); err != nil {
			t.Error(err)
		}
	})
	if got := r.do(client(), "GET", "/", ""); got.status != 200 || got.body != "one two" {
		t.Errorf("got %+v", got)
	}
}

func TestADeadlineAlsoBoundsTheWaitInTheQueue(t *testing.T) {
	for _, kind := range []string{"wsgi", "asgi"} {
		r := newRig(t, pool.Options{Threads: 1, Concurrency: 1}, pool.AppOptions{Name: "app", Timeout: 200 * time.Millisecond})
		g := newGate(t)
		w := r.attach(link.SharedMemory, kind, 1, g.handler)
		answers := r.send(3, none)
		for range 3 {
			if got := receive(t, "an answer", answers); got.status != 504 {
				t.Errorf("%s: got %+v", kind, got)
			}
		}
		if w.started.Load() != 1 {
			t.Errorf("%s: %d calls: a request over its deadline must not be started", kind, w.started.Load())
		}
	}
}

func TestNoRequestWaitsBehindABusyWorkerWhileAnotherIsFree(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1, Workers: 2}, pool.AppOptions{Name: "app"})
		blocked, second := newGate(t), newGate(t)
		r.attach(transport, "wsgi", 1, blocked.handler)
		w2 := r.attach(transport, "wsgi", 1, second.handler)
		answers := r.send(2, none)
		receive(t, "a request at the first worker", blocked.arrived)
		receive(t, "a request at the second worker", second.arrived)
		// Both are busy now; of these some are sent ahead to the first, where nobody
		// will ever take them.
		rest := r.send(6, none)
		eventually(t, "all are sent or wait", func() bool {
			st := r.pool.Status()
			return st.Waiting+st.Workers[0].WSGI+st.Workers[1].WSGI == 8
		})
		second.release()
		for range 6 {
			if got := receive(t, "an answer from the second worker", rest); got.status != 200 {
				t.Errorf("got %+v", got)
			}
		}
		if w2.started.Load() != 7 {
			t.Errorf("the second worker ran %d", w2.started.Load())
		}
		blocked.release()
		receive(t, "answer", answers)
		receive(t, "answer", answers)
		if moved := r.pool.Status().Counters.Moved; transport == link.SharedMemory && moved == 0 {
			t.Error("nothing was sent ahead and taken back: the test does not test it")
		}
	})
}

func TestRequestsInTheRingOfAStuckWorkerAreNotOvertakenForEver(t *testing.T) {
	r := newRig(t, pool.Options{Threads: 1, Workers: 2}, pool.AppOptions{Name: "app"})
	stuck := newGate(t)
	r.attach(link.SharedMemory, "wsgi", 1, stuck.handler)
	r.attach(link.SharedMemory, "wsgi", 1, func(w *worker, q *linktest.Request) {
		time.Sleep(2 * time.Millisecond) // slow enough that the queue is never empty
		w.reply(q, 200, "")
	})
	held := r.send(1, none)
	receive(t, "the request that sticks", stuck.arrived)
	// Keep the other worker and the queue so full that stealing, which serves an empty
	// queue, does not come to it.
	const while, most = 3 * time.Second, 1500 * time.Millisecond
	end := time.Now().Add(while)
	var load sync.WaitGroup
	for range 32 {
		load.Go(func() {
			c := client()
			for began := time.Now(); began.Before(end); began = time.Now() {
				if got := r.do(c, "POST", "/", ""); got.status != 200 {
					t.Errorf("got %+v", got)
				}
				if took := time.Since(began); took > most {
					t.Errorf("a request took %v: later ones were always served before it", took)
				}
			}
		})
	}
	eventually(t, "requests wait in the ring of the stuck worker", func() bool { return r.pool.Status().Workers[0].WSGI > 1 })
	load.Wait()
	stuck.release()
	receive(t, "answer", held)
}

func TestTheFewestUnderWayComeFirst(t *testing.T) {
	r := newRig(t, pool.Options{Concurrency: 100, Workers: 3}, pool.AppOptions{Name: "app"})
	g := newGate(t)
	var ws [3]*worker
	for i := range ws {
		ws[i] = r.attach(link.SharedMemory, "asgi", 0, g.handler)
	}
	answers := r.send(30, none)
	for range 30 {
		receive(t, "a request at an application", g.arrived)
	}
	for i, w := range ws {
		if w.started.Load() != 10 {
			t.Errorf("worker %d has %d of 30", i, w.started.Load())
		}
	}
	g.release()
	for range 30 {
		receive(t, "an answer", answers)
	}
}

func TestRequestsWaitForTheFirstWorkerAndAreRefusedWhenItCannotBoot(t *testing.T) {
	r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app"})
	early := r.send(2, none)
	eventually(t, "two wait", func() bool { return r.pool.Status().Waiting == 2 })
	r.pool.Unavailable(errors.New("no module named shop"))
	for range 2 {
		if got := receive(t, "an answer", early); got.status != 503 || !strings.Contains(got.body, "app_unavailable") {
			t.Errorf("got %+v", got)
		}
	}
	if got := r.do(client(), "GET", "/", ""); got.status != 503 || got.header.Get("Retry-After") == "" || strings.Contains(got.body, "shop") {
		t.Errorf("got %+v: at once, and without telling why", got)
	}
	r.attach(link.SharedMemory, "wsgi", 1, hello)
	if got := r.do(client(), "GET", "/", ""); got.status != 200 {
		t.Errorf("got %+v", got)
	}
}

func TestTheQueueIsBoundedBeforeTheFirstWorkerToo(t *testing.T) {
	r := newRig(t, pool.Options{Queue: 2}, pool.AppOptions{Name: "app"})
	early := r.send(2, none)
	eventually(t, "two wait", func() bool { return r.pool.Status().Waiting == 2 })
	got := r.do(client(), "GET", "/late", "")
	if got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "queue_full") {
		t.Errorf("got %+v", got)
	}
	r.attach(link.SharedMemory, "wsgi", 1, hello)
	for range 2 {
		if got := receive(t, "an answer to one that waited", early); got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestAStopRefusesWhatWaitsAndCutsWhatRuns(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1, Concurrency: 1}, pool.AppOptions{Name: "app"})
		reasons := make(chan uint32, 1)
		arrived := make(chan struct{}, 1)
		r.attach(transport, "asgi", 0, func(w *worker, q *linktest.Request) {
			arrived <- struct{}{}
			reasons <- q.WaitCancelled()
			if err := w.peer.Send(link.KindAbort, 0, q.Stream, link.AbortCancelled, nil); err != nil {
				t.Error(err)
			}
		})
		running := r.send(1, none)
		receive(t, "the request", arrived)
		waiting := r.send(1, none)
		eventually(t, "one waits", func() bool { return r.pool.Status().Waiting == 1 })
		r.pool.Stop()
		for _, answers := range []<-chan reply{running, waiting} {
			if got := receive(t, "an answer", answers); got.status != 503 || !strings.Contains(got.body, "stopping") {
				t.Errorf("got %+v", got)
			}
		}
		if reason := receive(t, "CANCEL", reasons); reason != link.CancelStopping {
			t.Errorf("CANCEL %d", reason)
		}
		if got := r.do(client(), "GET", "/", ""); got.status != 503 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestACordonedWorkerFinishesWhatItHasAndGetsNothingNew(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app"})
		g := newGate(t)
		old := r.attach(transport, "wsgi", 1, g.handler)
		first := r.send(1, none)
		receive(t, "a request at the application", g.arrived)
		behind := r.send(3, none)
		eventually(t, "three more are sent", func() bool { return r.pool.Status().Workers[0].WSGI == 4 })
		r.pool.Cordon(old.link)
		if transport == link.SharedMemory {
			eventually(t, "they are taken back", func() bool { return r.pool.Status().Waiting == 3 })
		}
		later := r.send(1, none)
		eventually(t, "a new one waits", func() bool { return r.pool.Status().Waiting > 0 })
		fresh := r.attach(transport, "wsgi", 1, echo)
		if got := receive(t, "the answer of the next worker", later); got.status != 200 || fresh.started.Load() == 0 {
			t.Errorf("got %+v", got)
		}
		g.release()
		if got := receive(t, "the answer of the cordoned worker", first); got.status != 200 {
			t.Errorf("got %+v", got)
		}
		for range 3 {
			if got := receive(t, "an answer", behind); got.status != 200 {
				t.Errorf("got %+v", got)
			}
		}
		if n := old.started.Load() + fresh.started.Load(); n != 5 || transport == link.SharedMemory && old.started.Load() != 1 {
			t.Errorf("the cordoned worker was called %d times, the next one %d", old.started.Load(), fresh.started.Load())
		}
	})
}
