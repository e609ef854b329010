package pool_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

// TestUnderRandomFaultsNoRequestIsLostOrRunTwice kills workers and resets clients, and
// then asks: had each request one answer, its own, and was the application called once
// at most; is every seat free again. GUADO_SEED repeats a run. Deadlines are on, and so
// long that a slow machine does not meet them.
func TestUnderRandomFaultsNoRequestIsLostOrRunTwice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("GUADO_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GUADO_SEED=%d", seed)
	onEach(t, func(t *testing.T, transport string) {
		for _, kind := range []string{"wsgi", "asgi"} {
			t.Run(kind, func(t *testing.T) { stress(t, transport, kind, rand.New(rand.NewPCG(seed, 1))) })
		}
	})
}

func stress(t *testing.T, transport, kind string, dice *rand.Rand) {
	const clients, requests, kills = 30, 25, 8
	r := newRig(t, pool.Options{Threads: 3, Concurrency: 6, Workers: 3, QueueWait: patience},
		pool.AppOptions{Name: "app", Spool: true, Timeout: patience})
	var calls sync.Map // path → number of calls of the application
	handler := func(w *worker, q *linktest.Request) {
		n, _ := calls.LoadOrStore(q.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		echoSomehow(w, q)
	}
	threads := map[string]int{"wsgi": 3, "asgi": 0}[kind]
	var workers []*worker
	for range 3 {
		workers = append(workers, r.attach(transport, kind, threads, handler))
	}
	var load sync.WaitGroup
	for i := range clients {
		own := rand.New(rand.NewPCG(dice.Uint64(), 2))
		load.Go(func() {
			c := client()
			for j := range requests {
				path := fmt.Sprintf("/%d/%d", i, j)
				body := strings.Repeat(path, own.IntN(2000))
				if own.IntN(20) == 0 {
					leave(t, r, path, body)
					continue
				}
				got := r.do(c, http.MethodPost, path, body)
				switch {
				case got.err != nil:
					// Cut in the middle of its answer: allowed, for a client notices it.
				case got.status == 200 && got.body == body, got.status == 502:
				default:
					t.Errorf("%s: status %d, %d bytes of %d, %.200s", path, got.status, len(got.body), len(body), got.body)
				}
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(dice.IntN(40)) * time.Millisecond) // faults come at any moment
		i := dice.IntN(len(workers))
		workers[i].kill()
		workers[i] = r.attach(transport, kind, threads, handler)
	}
	load.Wait()
	calls.Range(func(path, n any) bool {
		if n := n.(*atomic.Int64).Load(); n > 1 {
			t.Errorf("%s was run %d times", path, n)
		}
		return true
	})
	defer func() {
		if t.Failed() {
			var present []string
			for _, w := range workers {
				present = append(present, w.slot)
			}
			t.Logf("workers %v, %+v %+v\n%s", present, r.pool.Status(), r.spool.Status(), r.log.String())
		}
	}()
	eventually(t, "every seat is free", func() bool {
		st := r.pool.Status()
		for _, w := range st.Workers {
			if w.WSGI+w.ASGI > 0 {
				return false
			}
		}
		return len(st.Workers) == 3 && st.Waiting == 0 && r.spool.Status() == pool.SpoolStatus{}
	})
	if got := r.do(client(), "POST", "/last", "all is well"); got.body != "all is well" {
		t.Errorf("got %+v", got)
	}
	t.Logf("%+v", r.pool.Status().Counters)
}

// echoSomehow answers with the body: late, in pieces, or in one frame.
func echoSomehow(w *worker, q *linktest.Request) {
	var body []byte
	buf := make([]byte, 8<<10)
	for {
		n, err := q.Read(buf)
		body = append(body, buf[:n]...)
		if err != nil {
			break
		}
	}
	switch len(q.Path) % 3 {
	case 0: // some are slow, so that there is always something under way
		time.Sleep(2 * time.Millisecond)
	case 1:
		if q.Head(200, int64(len(body))) == nil {
			_ = q.Write(body, link.End) // the worker may be dead by now
		}
		return
	}
	select {
	case <-w.dead:
	default:
		_ = q.Reply(200, body) // as above
	}
}

// leave sends a request and resets its connection.
func leave(t *testing.T, r *rig, path, body string) {
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body); err != nil {
		t.Error(err)
	}
	if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
		t.Error(err)
	}
}
