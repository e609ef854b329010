package pool_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

func (w *worker) abort(q *linktest.Request, reason uint32, text string) {
	if err := w.peer.Send(link.KindAbort, 0, q.Stream, reason, []byte(text)); err != nil {
		w.t.Error(err)
	}
}

func TestAnExceptionGives500AndTellsTheClientNothingOfIt(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "shop"})
		r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
			if q.Path == "/protocol" {
				w.abort(q, link.AbortProtocol, "start_response was never called")
				return
			}
			w.abort(q, link.AbortException, "ValueError: secret detail")
		})
		got := r.do(client(), "GET", "/", "")
		if got.status != 500 || !strings.Contains(got.body, "application_error") || strings.Contains(got.body, "secret") {
			t.Errorf("got %+v", got)
		}
		if log := r.log.String(); strings.Contains(log, "secret detail") {
			t.Errorf("what the worker has logged is in the log a second time: %s", log)
		}
		if got := r.do(client(), "GET", "/protocol", ""); got.status != 500 || !strings.Contains(got.body, "application_protocol") {
			t.Errorf("got %+v", got)
		}
		if log := r.log.String(); !strings.Contains(log, "never called") || !strings.Contains(log, "request_id=") || !strings.Contains(log, "app=shop") {
			t.Errorf("log: %s", log)
		}
	})
}

func TestAnExceptionAfterTheHeadCutsTheAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, length := range []int64{-1, 100} {
			r := newRig(t, pool.Options{}, pool.AppOptions{Name: "shop"})
			r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
				if err := errors.Join(q.Head(200, length), q.Write([]byte("part"), 0)); err != nil {
					t.Error(err)
				}
				w.abort(q, link.AbortException, "ValueError: late")
			})
			_, in := r.dial("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				continue // cut before anything left: as good
			}
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("length %d: read %q to a clean end", length, b)
			}
		}
	})
}

func TestAnAnswerPassesAsTheWorkerStreamsIt(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app"})
		next := make(chan string)
		r.attach(transport, "asgi", 0, func(_ *worker, q *linktest.Request) {
			if err := q.Head(200, -1); err != nil {
				t.Error(err)
			}
			for part := range next {
				if err := q.Write([]byte(part), 0); err != nil {
					t.Error(err)
				}
			}
			if err := q.Write(nil, link.End); err != nil {
				t.Error(err)
			}
		})
		res, err := client().Get("http://" + r.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		in := bufio.NewReader(res.Body)
		for _, part := range []string{"data: 1\n", "data: 2\n", "data: 3\n"} {
			next <- part // the next one is not sent before this one was read
			if got, err := in.ReadString('\n'); err != nil || got != part {
				t.Fatalf("read %q, %v", got, err)
			}
		}
		close(next)
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Errorf("rest %q, %v", rest, err)
		}
	})
}

func TestAClientThatDoesNotReadHoldsItsApplicationAndNobodyElse(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Concurrency: 10}, pool.AppOptions{Name: "app"})
		written := make(chan int, 100_000)
		r.attach(transport, "asgi", 0, func(w *worker, q *linktest.Request) {
			if q.Path == "/other" {
				w.reply(q, 200, "other")
				return
			}
			if err := q.Head(200, -1); err != nil {
				t.Error(err)
			}
			chunk := make([]byte, 64<<10)
			for q.Write(chunk, 0) == nil {
				written <- len(chunk)
			}
			w.abort(q, link.AbortCancelled, "")
		})
		conn, _ := r.dial("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		// What fits into the buffers on the way is written, and no more: the application
		// stands still, which no event tells. Other requests take time meanwhile.
		c, before := client(), -1
		for total := 0; total != before; {
			before = total
			for range 200 {
				if got := r.do(c, "GET", "/other", ""); got.body != "other" {
					t.Fatalf("got %+v", got)
				}
			}
			total = len(written)
		}
		if total := len(written) * 64 << 10; total > 16<<20 {
			t.Errorf("%d bytes were taken from the application for a client that reads none", total)
		}
		reset(t, conn)
		eventually(t, "the application is told", func() bool { return r.pool.Status().Workers[0].ASGI == 0 })
	})
}

func TestTheThreadOfAnExchangeIsTakenUntilTheWorkerIsThroughWithIt(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1, Workers: 2}, pool.AppOptions{Name: "app"})
		through := make(chan struct{})
		w := r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
			p := linktest.AppendCommit(nil, 200, "", 4, []byte("soon"))
			if err := w.peer.Send(link.KindCommit, link.End|link.Busy, q.Stream, 0, p); err != nil {
				t.Error(err)
			}
			<-through
			if err := w.peer.Send(link.KindDone, 0, q.Stream, 0, nil); err != nil {
				t.Error(err)
			}
		})
		r.attach(transport, "wsgi", 1, hello)
		c := client()
		if got := r.do(c, "GET", "/", ""); got.body != "soon" {
			t.Fatalf("got %+v", got)
		}
		if st := r.pool.Status(); st.Workers[0].WSGI != 1 {
			t.Errorf("the worker has %d under way", st.Workers[0].WSGI)
		}
		for range 3 {
			if got := r.do(c, "GET", "/x", ""); got.body != "hello /x" {
				t.Errorf("got %+v: the busy thread was given a request", got)
			}
		}
		close(through)
		eventually(t, "the thread is free", func() bool { return r.pool.Status().Workers[0].WSGI == 0 })
		if got := r.do(c, "GET", "/", ""); got.body != "soon" || w.started.Load() != 2 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAFileIsSentFromItsDescriptor(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		content := strings.Repeat("0123456789abcdef", 50_000)
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app"})
		r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
			f, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }()
			err = errors.Join(q.Head(200, int64(len(content))), q.Write([]byte(content[:10]), 0),
				w.peer.SendFile(q.Stream, f, 10, int64(len(content)-10), link.End))
			if err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			if got := r.do(client(), "GET", "/", ""); got.body != content {
				t.Errorf("status %d, %d bytes, %v", got.status, len(got.body), got.err)
			}
		}
	})
}

func TestTrailersAndEarlyHintsPass(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app"})
		r.attach(transport, "asgi", 0, func(w *worker, q *linktest.Request) {
			hint := linktest.AppendHead(nil, 103, "", -1, linktest.Field{Name: "link", Value: "</a.css>; rel=preload"})
			trailers := linktest.AppendFields([]byte{1, 0}, linktest.Field{Name: "x-sum", Value: "42"})
			err := errors.Join(
				w.peer.Send(link.KindInformational, 0, q.Stream, 0, hint),
				q.Head(200, -1, linktest.Field{Name: "trailer", Value: "x-sum"}), q.Write([]byte("body"), 0),
				w.peer.Send(link.KindTrailers, link.End, q.Stream, 0, trailers))
			if err != nil {
				t.Error(err)
			}
		})
		_, in := r.dial("GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
		hint, err := http.ReadResponse(in, nil)
		if err != nil || hint.StatusCode != 103 || hint.Header.Get("Link") == "" {
			t.Fatalf("%v %+v", err, hint)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != "body" || res.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%q, trailers %v, %v", b, res.Trailer, err)
		}
	})
}

// reset ends a connection so that the other side knows: a plain close looks like a
// client that still reads.
func reset(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
		t.Error(err)
	}
}

func TestAClientThatLeavesIsToldToTheApplication(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 1}, pool.AppOptions{Name: "app"})
		arrived, reasons := make(chan struct{}, 10), make(chan uint32, 10)
		w := r.attach(transport, "wsgi", 1, func(w *worker, q *linktest.Request) {
			if q.Path == "/next" {
				w.reply(q, 200, "next")
				return
			}
			arrived <- struct{}{}
			reasons <- q.WaitCancelled()
			w.abort(q, link.AbortCancelled, "")
		})
		running, _ := r.dial("GET /running HTTP/1.1\r\nHost: x\r\n\r\n")
		receive(t, "the request", arrived)
		waiting, _ := r.dial("GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n")
		eventually(t, "both are sent", func() bool { return r.pool.Status().Workers[0].WSGI == 2 })
		reset(t, waiting)
		if transport == link.SharedMemory {
			eventually(t, "the one that had not started is taken back", func() bool { return r.pool.Status().Workers[0].WSGI == 1 })
		}
		reset(t, running)
		if reason := receive(t, "CANCEL", reasons); reason != link.CancelGone {
			t.Errorf("CANCEL %d", reason)
		}
		if got := r.do(client(), "GET", "/next", ""); got.body != "next" {
			t.Errorf("got %+v", got)
		}
		if transport == link.SharedMemory && w.started.Load() != 2 {
			t.Errorf("%d calls: a request whose client left before it started must not run", w.started.Load())
		}
	})
}

func TestAClientThatClosesItsHalfStillGetsItsAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app"})
		g := newGate(t)
		r.attach(transport, "asgi", 0, func(w *worker, q *linktest.Request) {
			g.arrived <- q
			eventually(t, "CANCEL of a half-closed connection", func() bool { return q.Cancelled() == link.CancelHalfClosed })
			w.reply(q, 200, "still here")
		})
		conn, in := r.dial("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		receive(t, "the request", g.arrived)
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "still here" {
			t.Errorf("%q, %v", b, err)
		}
	})
}
