package pool

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// AppOptions say how the exchanges of one application are handled.
type AppOptions struct {
	Name      string
	Timeout   time.Duration // to the head of the answer; 0: none
	Spool     bool          // collect bodies before a thread is taken (WSGI)
	Hidden    bool          // ours: nobody is shown it
	RetrySafe bool          // send GET, HEAD, OPTIONS and TRACE once more though they had started
}

// App is an application of the group, a step of the road.
type App struct {
	pool  *Pool
	opts  atomic.Pointer[AppOptions]
	index uint16       // in HELLO
	kind  atomic.Int32 // -1 until a worker has said it
}

// App adds an application; the order is that of HELLO.
func (p *Pool) App(o AppOptions) *App {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &App{pool: p, index: uint16(len(p.apps))}
	a.opts.Store(&o)
	a.kind.Store(-1)
	p.apps = append(p.apps, a)
	return a
}

// Serve answers x with the application.
func (a *App) Serve(x *exchange.Exchange) {
	f := newFlight(a, x)
	problem, owned := f.run()
	f.conclude(x, problem, owned)
}

func (f *flight) conclude(x *exchange.Exchange, problem *exchange.Problem, owned bool) {
	if !owned {
		f.free()
	}
	switch {
	case problem == nil:
	case errors.Is(problem.Err, exchange.ErrClientGone):
		x.Problem = problem // for the access log; there is nobody to answer
		x.Answer.Abort(problem)
	default:
		x.Fail(problem)
	}
}
