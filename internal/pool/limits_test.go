package pool_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

func TestWhoWaitsTooLongIsCountedOnce(t *testing.T) {
	for _, kind := range []string{"wsgi", "asgi"} {
		r := newRig(t, pool.Options{Threads: 1, Concurrency: 1, QueueWait: 200 * time.Millisecond}, pool.AppOptions{Name: "app"})
		g := newGate(t)
		r.attach(link.SharedMemory, kind, 1, g.handler)
		first := r.send(1, none)
		receive(t, "the first request at the application", g.arrived)
		waiting := r.send(3, none)
		for range 3 {
			if got := receive(t, "an answer to one that waited", waiting); got.status != 503 {
				t.Errorf("%s: got %+v", kind, got)
			}
		}
		if n := r.pool.Status().Counters.Refused; n != 3 {
			t.Errorf("%s: 3 were refused, %d counted", kind, n)
		}
		g.release()
		receive(t, "the first answer", first)
	}
}

func TestADeadlineAlsoBoundsTheWaitForTheFirstWorker(t *testing.T) {
	r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Timeout: 200 * time.Millisecond})
	if got := receive(t, "an answer while nothing has booted", r.send(1, none)); got.status != 504 || !strings.Contains(got.body, "deadline") {
		t.Errorf("got %+v", got)
	}
}

func TestADeadlineDoesNotCountTheUploadOfABodyThatIsSpooled(t *testing.T) {
	const deadline = 300 * time.Millisecond
	r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Spool: true, Timeout: deadline})
	r.attach(link.SharedMemory, "wsgi", 1, echo)
	c, in := r.dial("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	time.Sleep(2 * deadline) // a slow client: what is tested is that this time does not count
	if _, err := io.WriteString(c, "slow!"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatalf("%q %v", line, err)
	}
}

func TestExpectIsAnsweredByTheHostWhereAQuarterOfTheThreadsIsNone(t *testing.T) {
	for threads := 1; threads <= 4; threads++ {
		r := newRig(t, pool.Options{Threads: threads}, pool.AppOptions{Name: "app", Spool: true})
		arrived := make(chan struct{}, 1)
		w := r.attach(link.SharedMemory, "wsgi", threads, func(w *worker, q *linktest.Request) {
			arrived <- struct{}{}
			if q.Flags&2 != 0 {
				sayContinue(w, q)
			}
			echo(w, q)
		})
		c, in := r.dial(fmt.Sprintf(expecting, ""))
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%d threads: %q %v", threads, line, err)
		}
		if lent := w.started.Load() == 1; lent != (threads == 4) {
			t.Errorf("%d threads: one is lent: %t", threads, lent)
		}
		if _, err := io.WriteString(c, "12345"); err != nil {
			t.Fatal(err)
		}
		receive(t, "the request at the application", arrived)
	}
}
