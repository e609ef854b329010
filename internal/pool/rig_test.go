package pool_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/test/harness"
	"github.com/guado-server/guado/test/harness/edgetest"
)

// patience bounds every wait for an event; no test waits for time to pass.
const patience = 40 * time.Second

// rig is the road from real sockets to workers that speak the link, in this process.
type rig struct {
	t       testing.TB
	pool    *pool.Pool
	app     *pool.App
	spool   *pool.Spool
	address string
	log     *harness.Log
	slots   int
}

// transports are the ways to a worker on this platform.
func transports() []string {
	if runtime.GOOS == "linux" {
		return []string{link.SharedMemory, link.Socket}
	}
	return []string{link.Socket}
}

// onEach runs a test over each transport.
func onEach(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) { f(t, transport) })
	}
}

func newRig(t testing.TB, o pool.Options, a pool.AppOptions) *rig {
	t.Helper()
	return newRigBehind(t, edge.Options{}, o, a)
}

// newRigBehind is a rig behind an edge of its own kind.
func newRigBehind(t testing.TB, e edge.Options, o pool.Options, a pool.AppOptions) *rig {
	t.Helper()
	r := &rig{t: t, log: &harness.Log{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	if o.Spool == nil {
		o.Spool = pool.NewSpool(pool.SpoolOptions{Each: 1 << 20, Memory: 64 << 20, Disk: 1 << 30, Dir: t.TempDir()})
	}
	if o.Queue == 0 {
		o.Queue = 1000
	}
	r.spool, o.Log = o.Spool, log
	r.pool = pool.New(o)
	r.app = r.pool.App(a)
	if e.Handler == nil {
		e.Handler = r.app
	}
	e.Log = log
	r.address = edgetest.Serve(t, e, func() error { r.pool.Stop(); return nil })
	return r
}

// worker is a worker process played by this one.
type worker struct {
	slot    string
	t       testing.TB
	rig     *rig
	link    *link.Link
	peer    *linktest.Peer
	started atomic.Int64 // applications called
	once    sync.Once
	dead    chan struct{} // killed
	ended   chan struct{}
}

// reply answers, unless the worker was killed meanwhile.
func (w *worker) reply(q *linktest.Request, status int, body string, fields ...linktest.Field) {
	select {
	case <-w.dead:
		return
	default:
	}
	if len(body) < 64<<10 {
		if err := q.Reply(status, []byte(body), fields...); err != nil {
			w.t.Error(err)
		}
		return
	}
	if err := q.Head(status, int64(len(body)), fields...); err != nil {
		w.t.Error(err)
	}
	if err := q.Write([]byte(body), link.End); err != nil {
		w.t.Error(err)
	}
}

// attach boots a worker whose handler runs in one of n threads: what is sent beyond
// that stays unstarted, as in a real worker.
func (r *rig) attach(transport, kind string, threads int, handler func(*worker, *linktest.Request)) *worker {
	r.t.Helper()
	l, err := link.New(link.Options{Transport: transport})
	if err != nil {
		r.t.Fatal(err)
	}
	files, env := l.Child()
	peer, err := linktest.Open(files, env)
	if err != nil {
		r.t.Fatal(err)
	}
	l.CloseChild()
	w := &worker{t: r.t, rig: r, link: l, peer: peer, dead: make(chan struct{}), ended: make(chan struct{})}
	peer.Threads = threads
	go func() {
		defer close(w.ended)
		_ = peer.Serve(func(q *linktest.Request) { // its error is the end of the link
			w.started.Add(1)
			handler(w, q)
		}, kind)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ready, err := l.Hello(ctx, link.Hello{Apps: []link.App{{Name: "app"}}, Threads: threads})
	if err != nil {
		r.t.Fatal(err)
	}
	r.slots++
	w.slot = fmt.Sprintf("p%02d", r.slots)
	r.pool.Attach(w.slot, l, ready)
	r.t.Cleanup(w.kill)
	return w
}

// kill is kill -9: the descriptors close, and the process is known to be gone.
func (w *worker) kill() {
	w.once.Do(func() {
		if err := w.peer.Close(); err != nil { // from here on it starts nothing
			w.t.Error(err)
		}
		close(w.dead)
		w.link.ProcessExited()
		<-w.link.Done()
		w.rig.pool.Detach(w.link)
		if err := w.link.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// client has a connection of its own for each request under way.
func client() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}}
}

type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

func (r *rig) do(c *http.Client, method, path, body string) reply {
	q, err := http.NewRequest(method, "http://"+r.address+path, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	res, err := c.Do(q)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(b), err}
}

// dial sends raw bytes on a connection of its own.
func (r *rig) dial(text string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// eventually polls what has no event.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	harness.Eventually(t, what, patience, ok)
}

func receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
	return v
}
