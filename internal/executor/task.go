package executor

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// task is one call on its way: the client of an exchange, its body and its answer.
type task struct {
	caller    *caller
	pool      *pool
	way       *way // left when it has run
	id        uint32
	data      []byte
	timeout   time.Duration
	x         *exchange.Exchange
	cancelled atomic.Bool

	// Of the goroutine that serves the exchange.
	read    int
	status  int
	result  []byte
	problem *exchange.Problem
	failure error
}

func newTask(c *caller, p *pool, id uint32, call link.Call) *task {
	t := &task{caller: c, pool: p, way: p.take(), id: id, data: call.Data, x: exchange.New()}
	t.timeout = time.Duration(call.TimeoutMS) * time.Millisecond
	if t.timeout == 0 {
		t.timeout = t.way.Timeout
	}
	return t
}

// run sends the task through the executor's pool and answers the call.
func (t *task) run() {
	x := t.x
	x.Answer, x.Timeout = t, t.timeout
	x.App = t.pool.name
	x.Request = exchange.Request{
		ID: "call-" + strconv.FormatUint(t.caller.hub.serial.Add(1), 10), Method: "POST", Version: exchange.HTTP11, Scheme: "http",
		Host: []byte("guado"), Target: []byte("/"), RawPath: []byte("/"), Path: []byte("/"),
		Length: int64(len(t.data)), Body: body{t}, Peer: loopback, LocalName: "guado", Unix: true,
		Received: time.Now(),
	}
	if t.cancelled.Load() {
		x.SetGone(exchange.Closed)
	}
	t.way.Handler.Serve(x)
	t.way.leave()
	t.pool.left(t)
	if !t.caller.leave(t) {
		return // cancelled, or the worker has ended
	}
	status, code, text := t.verdict()
	data := t.result
	if code != "" {
		data = []byte(text)
	}
	_ = t.caller.reply(t.id, status, code, data) // a link that has ended needs no answer
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// cancel makes the pool forget it where it waits, and the process hear of it where it
// runs.
func (t *task) cancel() {
	t.cancelled.Store(true)
	t.x.SetGone(exchange.Closed)
}

// code is why there is no result.
func (t *task) code() string {
	_, code, _ := t.verdict()
	return code
}

func (t *task) verdict() (status uint16, code, text string) {
	switch {
	case t.problem != nil:
		text := t.problem.Error()
		if t.problem.Err != nil {
			text = t.problem.Err.Error()
		}
		return uint16(t.problem.Status), t.problem.Code, text
	case t.failure != nil:
		return 500, "call_failed", t.failure.Error()
	case t.status != 200:
		return 500, "call_failed", fmt.Sprintf("the executor answered %d", t.status)
	}
	return 200, "", ""
}

// ---- exchange.Answer ----------------------------------------------------------

var (
	errNoFile   = errors.New("an executor answers with bytes only")
	errTooLarge = fmt.Errorf("the result is more than %d MiB", maxResult>>20)
)

// Informational drops what an executor does not send.
func (t *task) Informational(int, []exchange.Field) error { return nil }

// Head begins the result.
func (t *task) Head(h exchange.Head) error {
	t.status = h.Status
	if h.Length > 0 && h.Length <= maxResult {
		t.result = make([]byte, 0, h.Length)
	}
	return nil
}

func (t *task) Write(p []byte) (int, error) {
	if t.failure != nil {
		return 0, t.failure
	}
	if len(t.result)+len(p) > maxResult {
		t.failure = errTooLarge
		return 0, fmt.Errorf("%w: %w", exchange.ErrClientGone, errTooLarge)
	}
	t.result = append(t.result, p...)
	return len(p), nil
}

// File refuses what an executor does not send.
func (t *task) File(exchange.File, int64, int64) error {
	t.failure = errNoFile
	return fmt.Errorf("%w: %w", exchange.ErrClientGone, errNoFile)
}

// Trailers drops them.
func (t *task) Trailers([]exchange.Field) error { return nil }

// Flush has nothing to do.
func (t *task) Flush() error { return nil }

// Abort ends a result that is not complete.
func (t *task) Abort(err error) {
	if p := (*exchange.Problem)(nil); errors.As(err, &p) && t.problem == nil && t.failure == nil {
		t.problem = p
	} else if t.failure == nil {
		t.failure = err
	}
}

// Problem is why there is no result.
func (t *task) Problem(_ *exchange.Exchange, p *exchange.Problem) { t.problem = p }

// Begun reports whether the result has begun.
func (t *task) Begun() bool { return t.status != 0 }

// ---- exchange.Body --------------------------------------------------------------

// body is the call's data.
type body struct{ t *task }

func (b body) Read(p []byte) (int, error) {
	n := copy(p, b.t.data[b.t.read:])
	b.t.read += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (body) Trailers() []exchange.Field { return nil }
func (body) Interrupt()                 {}
