package pool

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// place is where a flight waits.
type place uint8

const (
	placeNone place = iota
	placeQueued
	placeSeated
	placeRefused // flight.refusal says why
)

// news are what others tell the goroutine of a flight.
const (
	newsDeadline uint32 = 1 << iota
	newsQueueWait
	newsMove     // a free worker waits for it
	newsRequeue  // its worker stands still
	newsStopping // the pool is cut
	newsRestart  // a WebSocket must leave its worker
)

// flight is one exchange on its way through the pool. It belongs to the goroutine
// that serves the exchange; once the client has its answer and the worker is not yet
// through with it, to the link, which calls landing.
type flight struct {
	pool *Pool
	app  *App
	kind kind
	id   string // of the request

	x       atomic.Pointer[exchange.Exchange] // whom ring wakes; nil: nobody
	pump    atomic.Pointer[pump]              // rung as well
	stream  atomic.Pointer[link.Stream]       // once REQUEST was sent
	session atomic.Pointer[session]           // once a WebSocket was accepted
	number  atomic.Uint32                     // of that stream, for log messages
	news    atomic.Uint32
	begun   atomic.Bool // answered: its deadline is no more

	timed    bool // deadline is set
	deadline time.Time

	// Guarded by pool.mu.
	next, prev *flight
	place      place
	seat       *worker
	target     *worker // reserved a thread for it
	refusal    *exchange.Problem
	since      time.Time // queued at
	tickSeated uint64
	era        uint64 // seated in
	slow       bool   // Slow has told of it
	unread     bool   // holds a thread without its body
	again      bool   // goes to the head of the queue
	ahead      bool   // seated where all threads are taken

	// Of the serving goroutine.
	body      held
	bodySent  int64
	streaming bool // the body goes on as it comes
	socket    bool // a WebSocket is asked for
	retried   bool
	halfTold  bool
	sent      time.Time // to the worker, the last time
	key       string    // of pool.Behind; empty: it was told
	sentTo    *link.Link
	clock     time.Time // as it was read, while nothing was waited for since; zero otherwise
	fields    []exchange.Field
	frames    []link.Frame
	request   []byte
	upgraded  *session // that is to begin
	landing   func()   // release and free, made once
}

var flights = sync.Pool{New: func() any { return &flight{} }}

func newFlight(a *App, x *exchange.Exchange) *flight {
	f := flights.Get().(*flight)
	if f.landing == nil {
		f.landing = func() {
			f.pool.release(f, true)
			f.free()
		}
	}
	f.pool, f.app, f.id = a.pool, a, x.ID
	f.x.Store(x)
	return f
}

// free gives the flight back. Late rings of its old stream may still reach it, and
// then its next exchange: a spurious ring is allowed.
func (f *flight) free() {
	if f.unread {
		f.pool.mu.Lock()
		f.pool.unlend(f)
		f.pool.mu.Unlock()
	}
	f.body.drop()
	f.x.Store(nil)
	f.pump.Store(nil)
	f.stream.Store(nil)
	f.number.Store(0)
	f.news.Store(0)
	f.begun.Store(false)
	f.pool, f.app, f.kind = nil, nil, 0
	f.timed = false
	f.place, f.seat, f.target, f.refusal, f.again, f.ahead = placeNone, nil, nil, nil, false, false
	f.session.Store(nil)
	f.socket = false
	f.bodySent, f.streaming, f.retried, f.halfTold = 0, false, false, false
	f.sent, f.clock = time.Time{}, time.Time{}
	clear(f.fields[:cap(f.fields)]) // they point into memory of the link
	clear(f.frames[:cap(f.frames)])
	f.fields, f.frames = f.fields[:0], f.frames[:0]
	if cap(f.request) > 2*inlineMost {
		f.request = nil
	}
	flights.Put(f)
}

// Ring is called by the link when the stream has news.
func (f *flight) Ring() {
	if p := f.pump.Load(); p != nil {
		p.ring()
	}
	f.ring()
}

func (f *flight) ring() {
	if x := f.x.Load(); x != nil {
		x.Ring()
	} else if k := f.session.Load(); k != nil {
		k.Ring()
	}
}

// tell adds news and rings; false when it was told already.
func (f *flight) tell(n uint32) bool {
	if f.news.Or(n)&n != 0 {
		return false
	}
	f.ring()
	return true
}

// waiting reports whether the request was sent, and can still be taken back and sent
// elsewhere.
func (f *flight) waiting() bool {
	s := f.stream.Load()
	return s != nil && f.pump.Load() == nil && !s.Started()
}

func (f *flight) over(now time.Time) bool { return f.timed && now.After(f.deadline) }

// run serves the exchange. owned says that the link has the flight now, because the
// worker is not through with the exchange: it must not be touched any more.
func (f *flight) run() (problem *exchange.Problem, owned bool) {
	x := f.x.Load()
	f.clock = time.Now()
	if t := cmp.Or(x.Timeout, f.app.opts.Load().Timeout); t > 0 {
		f.timed, f.deadline = true, f.clock.Add(t)
	}
	if problem := f.learnKind(x); problem != nil {
		return problem, false
	}
	if f.socket = x.Upgrader != nil && f.kind == asgi; f.socket {
		if problem := x.Upgrader.Check(x); problem != nil {
			return problem, false
		}
	}
	if x.Length != 0 {
		began := time.Now()
		if problem := f.prepare(x); problem != nil {
			return problem, false
		}
		// How long the client takes to send a body that is spooled is bounded by the
		// lane, and is not the application's.
		f.clock = time.Now()
		f.deadline = f.deadline.Add(f.clock.Sub(began))
	}
	for {
		if problem, owned, over := f.leg(x); over {
			return problem, owned
		}
	}
}

// leg is one flight to a worker, with its seat; not over: another one follows.
func (f *flight) leg(x *exchange.Exchange) (problem *exchange.Problem, owned, over bool) {
	if f.seat == nil {
		if problem := f.takeSeat(x); problem != nil {
			return problem, false, true
		}
	}
	v, problem := f.fly(x)
	owned, over = f.through(v)
	return problem, owned, over
}

func (f *flight) through(v verdict) (owned, over bool) {
	switch v {
	case landed:
		return false, true
	case handedOver, upgraded:
		return true, true
	case flyAgain:
		f.again = true
	case flyMoved:
	}
	return false, false
}

// learnKind waits for the first worker of the group, which says what the
// applications are.
func (f *flight) learnKind(x *exchange.Exchange) *exchange.Problem {
	k := f.app.kind.Load()
	for k < 0 {
		early, problem := f.pool.admitEarly(f)
		if problem != nil {
			return problem
		}
		if early {
			f.clock = time.Time{}
			if problem := f.await(x); problem != nil {
				return problem
			}
		}
		k = f.app.kind.Load()
	}
	f.kind = kind(k)
	return nil
}

func (f *flight) takeSeat(x *exchange.Exchange) *exchange.Problem {
	queued, problem := f.pool.admit(f)
	if queued {
		f.clock = time.Time{}
		problem = f.await(x)
	}
	return problem
}

// await waits until the flight is in no queue any more.
func (f *flight) await(x *exchange.Exchange) *exchange.Problem {
	p := f.pool
	for {
		p.mu.Lock()
		at, since := f.place, f.since
		if at == placeQueued && x.Gone() == exchange.Closed {
			p.leave(f)
			p.mu.Unlock()
			return clientProblem(exchange.ErrClientGone)
		}
		p.mu.Unlock()
		switch at {
		case placeQueued:
			x.Wait()
			continue
		case placeRefused:
			return f.refusal
		}
		x.Waited += time.Since(since)
		return nil
	}
}

// leave takes f out of the queue it is in. Called with p.mu held.
func (p *Pool) leave(f *flight) {
	for _, l := range []*list{&p.early, &p.queues[f.kind]} {
		for o := l.first; o != nil; o = o.next {
			if o == f {
				l.remove(f)
				f.place = placeNone
				return
			}
		}
	}
}

// verdict is how a flight to one worker ended.
type verdict uint8

const (
	landed     verdict = iota // the exchange has its answer, or the problem is it
	handedOver                // the same, and the worker is not through with it
	flyAgain                  // no seat any more: queue up again, in front
	flyMoved                  // seated on another worker
	upgraded                  // a session has it
)

var errWorkerDied = errors.New("the worker died while it handled the request")

// fly sends the request to the worker on which f is seated, and serves its answer.
func (f *flight) fly(x *exchange.Exchange) (verdict, *exchange.Problem) {
	if v, problem, off := f.launch(x); !off {
		return v, problem
	}
	return f.follow(x)
}

// launch sends the request; off: it is on its way.
func (f *flight) launch(x *exchange.Exchange) (v verdict, problem *exchange.Problem, off bool) {
	w := f.seat
	x.Worker, x.Worked = w.slot, 0
	f.news.And(newsDeadline | newsStopping) // the rest was about the worker before
	s, err := w.link.Open(f)
	if err == nil {
		f.number.Store(s.ID()) // first: the worker may log before send is back
		if f.sent = f.clock; f.sent.IsZero() {
			f.sent = time.Now()
		}
		f.clock = time.Time{}
		err = f.send(s, x)
		if err != nil {
			s.Close()
		}
	}
	if err != nil {
		if errors.Is(err, link.ErrNoSlot) {
			f.pool.release(f, false)
			return landed, &exchange.Problem{Status: 503, Code: "queue_full", RetryAfter: 1, Err: err}, false
		}
		// It died since we were seated. Nobody may be seated there again before the
		// supervisor has heard of it, or we would come back at once.
		f.pool.Detach(w.link)
		f.pool.release(f, false)
		return flyAgain, nil, false
	}
	f.stream.Store(s)
	if f.ahead {
		f.pool.sent()
	}
	return v, nil, true
}

// follow serves the answer.
func (f *flight) follow(x *exchange.Exchange) (verdict, *exchange.Problem) {
	s := f.stream.Load()
	v, problem := f.attend(s, x)
	f.stopPump(x)
	f.account(s, x)
	f.stream.Store(nil)
	switch v {
	case handedOver:
		if f.pool.opts.Workers > 1 {
			f.pool.stay(f) // the link may keep it for long: no thread is reserved for it meanwhile
		}
		f.x.Store(nil)
		f.begun.Store(true)
		f.body.drop()
		s.Abandon(f.landing)
	case flyMoved:
		s.Close()
	case upgraded:
		f.upgraded.begin() // the flight is another's from here on
	default:
		f.pool.release(f, v == landed)
		s.Close()
	}
	return v, problem
}

// account notes how long the application had the exchange. Its worker says so with the
// answer; of one that gave none, the time it was waited for is known.
func (f *flight) account(s *link.Stream, x *exchange.Exchange) {
	if x.Worked == 0 && s.Started() {
		x.Worked = time.Since(f.sent)
	}
	if x.Trace.Sampled {
		x.Trace.Sent, x.Trace.Ended = f.sent, time.Now()
	}
}

// goAhead sends the worker what it must have before the request.
func (f *flight) goAhead(x *exchange.Exchange) (err error) {
	f.behind()
	if ahead := f.pool.opts.Ahead; ahead != nil {
		f.sentTo = f.seat.link
		f.key, err = ahead(f.sentTo, x)
	}
	return err
}

// behind is called when the head has come, and at the end.
func (f *flight) behind() {
	if f.key != "" {
		f.pool.opts.Behind(f.sentTo, f.key)
		f.key, f.sentTo = "", nil
	}
}

// send writes REQUEST, with a short body that is here inside, and starts the pump of
// one that is not here, unless the client waits to be asked for it.
func (f *flight) send(s *link.Stream, x *exchange.Exchange) error {
	var inline []byte
	if 0 < f.body.size && f.body.size <= inlineMost && f.body.file == nil {
		inline = f.body.first() // a longer one would be copied twice for nothing
	}
	f.bodySent = int64(len(inline))
	end := !f.streaming && f.bodySent == f.body.size && !f.socket
	if f.socket {
		s.BeSocket()
	}
	if x.Who != nil {
		s.Of(x.Who.Key, x.Once)
	} else if x.Once != nil {
		s.Of(0, x.Once)
	}
	if x.Turn != nil {
		f.request = link.AppendTurn(f.request[:0], x.Turn, f.app.index)
	} else {
		f.request = link.AppendRequest(f.request[:0], x, f.app.index, f.kind == wsgi, inline)
	}
	if err := f.goAhead(x); err != nil {
		return err
	}
	if x.Turn != nil {
		return s.Turn(f.request)
	}
	if err := s.Request(f.request, end); err != nil {
		return err
	}
	if f.streaming && !x.Expect {
		f.startPump(s, x)
	}
	return nil
}
