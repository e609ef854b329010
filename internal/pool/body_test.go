package pool_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

func TestNoThreadIsTakenBeforeTheBodyIsHere(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app", Spool: true})
		w := r.attach(transport, "wsgi", 1, echo)
		slow, in := r.dial("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive \r\n")
		for range 3 {
			if got := r.do(client(), "POST", "/", "quick"); got.body != "quick" {
				t.Errorf("got %+v", got)
			}
		}
		if w.started.Load() != 3 {
			t.Errorf("%d calls", w.started.Load())
		}
		if _, err := io.WriteString(slow, "5\r\nmore.\r\n0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "five more." {
			t.Errorf("%q %v", b, err)
		}
	})
}

func TestWithoutTheSpoolABodyStreamsWhileTheAnswerDoes(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, kind := range []string{"wsgi", "asgi"} {
			r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Spool: false})
			r.attach(transport, kind, 1, func(_ *worker, q *linktest.Request) {
				if err := q.Head(200, -1); err != nil {
					t.Error(err)
				}
				buf := make([]byte, 1<<10)
				for {
					n, err := q.Read(buf)
					if err != nil {
						break
					}
					if err := q.Write(buf[:n], 0); err != nil {
						t.Error(err)
					}
				}
				if err := q.Write(nil, link.End); err != nil {
					t.Error(err)
				}
			})
			conn, in := r.dial("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				part := fmt.Sprintf("part %d", i)
				if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(part), part); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(part))
				if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != part {
					t.Fatalf("%s: read %q, %v", kind, got, err)
				}
			}
			if _, err := io.WriteString(conn, "0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
				t.Errorf("%s: rest %q, %v", kind, rest, err)
			}
		}
	})
}

func TestABodyOverTheQuotaOfTheSpoolIsRefused(t *testing.T) {
	dir := t.TempDir()
	spool := pool.NewSpool(pool.SpoolOptions{Each: 64 << 10, Memory: 128 << 10, Disk: 256 << 10, Dir: dir})
	r := newRig(t, pool.Options{Spool: spool}, pool.AppOptions{Name: "app", Spool: true})
	w := r.attach(link.SharedMemory, "wsgi", 1, echo)
	c := client()
	if got := r.do(c, "POST", "/", strings.Repeat("x", 200<<10)); got.status != 200 || len(got.body) != 200<<10 {
		t.Errorf("within the quota: status %d, %d bytes, %v", got.status, len(got.body), got.err)
	}
	conn, in := r.dial(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<20))
	go func() { _, _ = io.WriteString(conn, strings.Repeat("x", 1<<20)) }() // may be cut
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<10)
	n, _ := res.Body.Read(b)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(string(b[:n]), "spool_full") {
		t.Errorf("got %d %q", res.StatusCode, b[:n])
	}
	eventually(t, "the spool is empty", func() bool { return spool.Status() == pool.SpoolStatus{} })
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("files in the spool's folder: %v %v", names, err)
	}
	if w.started.Load() != 1 {
		t.Errorf("%d calls", w.started.Load())
	}
}

func TestMemoryOfAllBodiesTogetherIsBounded(t *testing.T) {
	spool := pool.NewSpool(pool.SpoolOptions{Each: 1 << 20, Memory: 256 << 10, Disk: 1 << 30, Dir: t.TempDir()})
	r := newRig(t, pool.Options{Threads: 4, Spool: spool}, pool.AppOptions{Name: "app", Spool: true})
	g := newGate(t)
	r.attach(link.SharedMemory, "wsgi", 4, g.handler)
	answers := r.send(4, func(int) string { return strings.Repeat("y", 200<<10) })
	for range 4 {
		receive(t, "a request at the application", g.arrived)
	}
	st := spool.Status()
	if st.Memory > 256<<10 || st.Files < 2 {
		t.Errorf("spool %+v", st)
	}
	g.release()
	for range 4 {
		if got := receive(t, "an answer", answers); got.status != 200 {
			t.Errorf("got %+v", got.status)
		}
	}
	eventually(t, "the spool is empty", func() bool { return spool.Status() == pool.SpoolStatus{} })
}

func TestACutBodyNeverReachesASpooledApplicationAndIsToldToAStreamedOne(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, spool := range []bool{true, false} {
			r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Spool: spool})
			errs := make(chan error, 1)
			arrived := make(chan struct{}, 1)
			w := r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
				arrived <- struct{}{}
				_, err := io.ReadAll(q)
				errs <- err
				w.abort(q, link.AbortCancelled, "")
			})
			conn, in := r.dial("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			if !spool {
				receive(t, "the request at the application", arrived)
			}
			if _, err := io.WriteString(conn, "not a size\r\n"); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			if res.StatusCode != 400 || !strings.Contains(string(b), "malformed_body") {
				t.Errorf("spool %t: got %d %q", spool, res.StatusCode, b)
			}
			if spool && w.started.Load() != 0 {
				t.Error("the application was called")
			}
			if !spool {
				if err := receive(t, "the end of the application's read", errs); err == nil {
					t.Error("the application took the body for complete")
				}
			}
		}
	})
}

const expecting = "POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"

// sayContinue is INFORMATIONAL 100: the application's first read.
func sayContinue(w *worker, q *linktest.Request) {
	if err := w.peer.Send(link.KindInformational, 0, q.Stream, 0, linktest.AppendHead(nil, 100, "", -1)); err != nil {
		w.t.Error(err)
	}
}

func TestExpectIsAnsweredAtTheFirstReadForAQuarterOfTheThreads(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 8}, pool.AppOptions{Name: "app", Spool: true})
		arrived, read := make(chan *linktest.Request, 10), make(chan struct{})
		w := r.attach(transport, "wsgi", 8, func(w *worker, q *linktest.Request) {
			arrived <- q
			if q.Flags&2 != 0 {
				<-read
				sayContinue(w, q)
			}
			echo(w, q)
		})
		// Two of eight threads are taken before the body is here, and nobody is asked for it.
		c1, in1 := r.dial(fmt.Sprintf(expecting, "1"))
		c2, in2 := r.dial(fmt.Sprintf(expecting, "2"))
		for range 2 {
			if q := receive(t, "a request before its body", arrived); q.Flags&2 == 0 {
				t.Error("the request does not say that 100 is due")
			}
		}
		// The third is asked by the host, and spooled.
		c3, in3 := r.dial(fmt.Sprintf(expecting, "3"))
		if line, err := in3.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q %v", line, err)
		}
		if w.started.Load() != 2 {
			t.Errorf("%d calls", w.started.Load())
		}
		if in1.Buffered()+in2.Buffered() > 0 {
			t.Error("a client was asked for its body before the application read it")
		}
		if _, err := io.WriteString(c3, "three"); err != nil {
			t.Fatal(err)
		}
		close(read)
		for _, in := range []io.Reader{in1, in2} {
			line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
			if _, err := io.ReadFull(in, line); err != nil || !strings.HasPrefix(string(line), "HTTP/1.1 100") {
				t.Fatalf("%q %v", line, err)
			}
		}
		for _, c := range []io.Writer{c1, c2} {
			if _, err := io.WriteString(c, "12345"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all have answered", func() bool { return r.pool.Status().Counters.Exchanges == 3 })
		for len(arrived) > 0 {
			<-arrived
		}
		// What was lent has come back: two more are asked by their application.
		for _, path := range []string{"4", "5"} {
			r.dial(fmt.Sprintf(expecting, path))
			if q := receive(t, "a request before its body, again", arrived); q.Flags&2 == 0 {
				t.Error("a thread that was lent did not come back")
			}
		}
	})
}

func TestExpectIsAnsweredByTheHostWhereThereIsOneThread(t *testing.T) {
	r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app", Spool: true})
	w := r.attach(link.SharedMemory, "wsgi", 1, echo)
	_, in := r.dial(fmt.Sprintf(expecting, ""))
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") || w.started.Load() != 0 {
		t.Fatalf("%q %v, %d calls", line, err, w.started.Load())
	}
}

func TestAnApplicationThatRefusesAnExpectedBodyNeverGetsIt(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, kind := range []string{"wsgi", "asgi"} {
			r := newRig(t, pool.Options{Threads: 8}, pool.AppOptions{Name: "app", Spool: true})
			r.attach(transport, kind, 8, func(w *worker, q *linktest.Request) { w.reply(q, 401, "who are you?") })
			_, in := r.dial(fmt.Sprintf(expecting, ""))
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != 401 {
				t.Fatalf("%s: %v %+v", kind, err, res)
			}
		}
	})
}

func TestAnAnswerBeforeTheBodyWasReadEndsTheExchange(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app"})
		r.attach(transport, "asgi", 0, func(w *worker, q *linktest.Request) { w.reply(q, 413, "too long for me") })
		// The client has announced much and sends nothing: reading must not outlast the answer.
		_, in := r.dial("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != 413 {
			t.Fatalf("%v %+v", err, res)
		}
		eventually(t, "the exchange has ended", func() bool { return r.pool.Status().Workers[0].ASGI == 0 })
	})
}
