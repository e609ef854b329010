package pool_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

// answersOf counts answers by status, checking that each 200 is the sender's own.
func answersOf(t *testing.T, n int, answers <-chan reply) map[int]int {
	t.Helper()
	by := map[int]int{}
	for range n {
		got := receive(t, "an answer", answers)
		if got.err != nil {
			t.Errorf("no answer: %v", got.err)
		}
		by[got.status]++
	}
	return by
}

func TestOnlyRequestsThatHadStartedFailWhenTheirWorkerIsKilled(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 8}, pool.AppOptions{Name: "app", Spool: true})
		g := newGate(t)
		first := r.attach(transport, "wsgi", 8, g.handler)
		bodies := make(chan string, 64)
		answers := make(chan reply, 64)
		c := client()
		for i := range 64 {
			go func() {
				body := strings.Repeat(fmt.Sprintf("request %d ", i), 100)
				got := r.do(c, http.MethodPost, fmt.Sprintf("/%d", i), body)
				if got.status == 200 && got.body != body {
					bodies <- got.body
				}
				answers <- got
			}()
		}
		for range 8 {
			receive(t, "a request at the application", g.arrived)
		}
		eventually(t, "64 are sent", func() bool { return r.pool.Status().Workers[0].WSGI == 64 })
		first.kill()
		eventually(t, "the rest waits for a worker", func() bool { return r.pool.Status().Waiting == 56 })
		second := r.attach(transport, "wsgi", 8, echo)
		by := answersOf(t, 64, answers)
		if by[200] < 56 || by[502] > 8 || by[200]+by[502] != 64 {
			t.Errorf("answers %v", by)
		}
		if calls := first.started.Load() + second.started.Load(); calls != 64 {
			t.Errorf("%d calls of the application for 64 requests", calls)
		}
		if len(bodies) > 0 {
			t.Errorf("a client got another's body: %q", <-bodies)
		}
		if st := r.pool.Status().Counters; st.Lost != 8 {
			t.Errorf("counters %+v", st)
		}
	})
}

func TestARequestIsSentOnceMoreAndNotForEver(t *testing.T) {
	// It is safe, and would be sent again each time: only that it was once before stops it.
	r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app", Spool: true, RetrySafe: true})
	held := newGate(t)
	answers := make(chan reply, 1)
	w := r.attach(link.SharedMemory, "wsgi", 1, held.handler)
	go func() { answers <- r.do(client(), "GET", "/", "") }()
	receive(t, "the request", held.arrived)
	w.kill()
	w = r.attach(link.SharedMemory, "wsgi", 1, held.handler)
	receive(t, "it came again", held.arrived)
	w.kill()
	if got := receive(t, "an answer", answers); got.status != 502 || !strings.Contains(got.body, "worker_died") {
		t.Errorf("got %+v", got)
	}
	if n := r.pool.Status().Counters.Retried; n != 1 {
		t.Errorf("%d retries", n)
	}
}

func TestASafeRequestThatHadStartedIsRetriedOnlyWhereTheAppSaysSo(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, c := range []struct {
			method string
			safe   bool
			want   int
		}{{"GET", true, 200}, {"GET", false, 502}, {"POST", true, 502}} {
			r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Spool: true, RetrySafe: c.safe})
			g := newGate(t)
			w := r.attach(transport, "wsgi", 1, g.handler)
			answers := make(chan reply, 1)
			go func() { answers <- r.do(client(), c.method, "/", "") }()
			receive(t, "the request", g.arrived)
			w.kill()
			r.attach(transport, "wsgi", 1, hello)
			if got := receive(t, "an answer", answers); got.status != c.want {
				t.Errorf("%s, retry safe %t: got %+v", c.method, c.safe, got)
			}
		}
	})
}

func TestAnAnswerThatHadBegunIsCutWhenItsWorkerDies(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", RetrySafe: true})
		w := r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
			if err := q.Head(200, -1); err != nil {
				t.Error(err)
			}
			if err := q.Write([]byte("begun"), 0); err != nil {
				t.Error(err)
			}
			<-w.dead
		})
		_, in := r.dial("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		part := make([]byte, 5)
		if _, err := res.Body.Read(part); err != nil {
			t.Fatal(err)
		}
		w.kill()
		if n, err := res.Body.Read(part); err == nil || err.Error() == "EOF" {
			t.Errorf("read %d, %v: a cut answer must not look complete", n, err)
		}
	})
}

func TestABodyThatWasSpooledToDiskGoesToTheNextWorker(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		spool := pool.NewSpool(pool.SpoolOptions{Each: 64 << 10, Memory: 1 << 20, Disk: 1 << 30, Dir: t.TempDir()})
		r := newRig(t, pool.Options{Threads: 1, Spool: spool}, pool.AppOptions{Name: "app", Spool: true})
		g := newGate(t)
		w := r.attach(transport, "wsgi", 1, g.handler)
		held := r.send(1, none)
		receive(t, "the request that holds the thread", g.arrived)
		body := strings.Repeat("0123456789abcdef", 40_000)
		answers := r.send(1, func(int) string { return body })
		eventually(t, "the second request is sent", func() bool { return r.pool.Status().Workers[0].WSGI == 2 })
		if st := spool.Status(); st.Files != 1 || st.Disk != int64(len(body)) {
			t.Errorf("spool %+v", st)
		}
		w.kill()
		receive(t, "502", held)
		r.attach(transport, "wsgi", 1, echo)
		if got := receive(t, "an answer", answers); got.status != 200 || got.body != body {
			t.Errorf("status %d, %d bytes", got.status, len(got.body))
		}
		eventually(t, "the spool is empty", func() bool { return spool.Status() == pool.SpoolStatus{} })
	})
}
