// Package pool is the admission queue of a group: a request waits for any free
// worker, its body is spooled, its deadline kept, and it is sent once more when its
// worker died before it had started.
// Before it: route. After it: link.
// Not here: starting and killing workers (supervise), the wire (link).
package pool

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// kind is the interface of an application: what of a worker it occupies.
type kind uint8

const (
	wsgi  kind = iota // a thread
	asgi              // a task of the event loop
	kinds             // how many there are
)

// tickEvery is how exact deadlines are. One coarse timer rings those whose time is
// over: arming one per request costs more than the rest of this package.
const tickEvery = 100 * time.Millisecond

// Prefetch is how many requests wait in the ring of an only worker at most: so many
// that it never runs dry while the host is busy with others.
const Prefetch = 256

// Options of a pool.
type Options struct {
	Name        string
	Queue       int           // requests that may wait; more get 503
	QueueWait   time.Duration // how long one may wait; 0: no limit
	Threads     int           // of each worker
	Concurrency int           // ASGI exchanges of each worker
	Workers     int           // how many there will be; with one, requests are sent ahead freely
	Spool       *Spool
	Log         *slog.Logger
	Dev         bool // problems carry tracebacks to the client
	// Interrupted is told that a worker had to be interrupted in a request: it should be
	// replaced. It must not block. nil: nobody is told.
	// Ahead sends a worker what it must have before it gets the request of x; nil: nothing
	// has to. It may wait a little, and the request with it. Behind is told, once, when the
	// head of the answer has come or the worker is through with the request; it gets what
	// Ahead gave, unless that is empty.
	Ahead       func(l *link.Link, x *exchange.Exchange) (key string, err error)
	Behind      func(l *link.Link, key string)
	Interrupted func(l *link.Link)
	// Kept returns when all that workers have committed so far is kept, or why it cannot be:
	// nothing of an answer leaves before. nil: nobody keeps it.
	Kept func() error
}

// Pool is the queue of a group and the workers that take from it.
type Pool struct {
	opts   Options // what Tune changes is guarded by mu
	ticker *time.Timer

	mu          sync.Mutex // guards all below, the lists of workers, and flight.seat and its neighbours
	apps        []*App
	workers     []*worker // attached ones, in order of slots
	attached    uint64    // how many there were
	queues      [kinds]list
	early       list  // waiting for the first worker, which knows the kinds
	unavailable error // why no worker can be had, while none can
	stopping    bool
	ticking     bool
	ticks       uint64
	era         uint64        // seconds in which Slow was asked
	unread      int           // Expect exchanges that hold a thread while their body is not here
	calm        chan struct{} // closed when nothing is under way; nil: nobody waits for that
	total       Counters
}

// Counters only grow.
type Counters struct {
	Exchanges uint64 `json:"exchanges"`
	Queued    uint64 `json:"queued"`  // had to wait
	Refused   uint64 `json:"refused"` // queue full or waited too long
	Retried   uint64 `json:"retried"` // sent once more after their worker died
	Lost      uint64 `json:"lost"`    // 502: their worker died
	Moved     uint64 `json:"moved"`   // taken back from a busy worker for a free one
	Expired   uint64 `json:"expired"` // over their deadline
}

// worker is a process that takes requests.
type worker struct {
	slot    string
	number  uint64 // of those that were attached, one after the other
	link    *link.Link
	revokes bool // unstarted requests can be taken back
	gone    bool
	leaving bool // takes nothing new, and keeps what it has
	stuck   bool // what waits in its ring has waited long, while others got on
	sides   [kinds]side
	settled uint64 // exchanges that ended; the ticker sees progress by it
	before  uint64 // settled at the last tick
}

// side is one kind's share of a worker.
type side struct {
	flights  list // in the order in which they were sent
	reserved int  // for requests on their way from a busy worker
	limit    int  // that can run at once
	window   int  // that may be sent, those that wait in the ring included
}

func (s *side) used() int { return s.flights.n + s.reserved }

// room is how many requests the worker may have: those it can run and, unless it is
// stuck, some that wait in its ring.
func (w *worker) room(k kind) int {
	switch {
	case w.leaving:
		return 0
	case w.stuck:
		return w.sides[k].limit
	}
	return w.sides[k].window
}

// New makes a pool without workers; requests wait for the first one.
func New(o Options) *Pool {
	o.Threads, o.Concurrency, o.Workers = max(o.Threads, 1), max(o.Concurrency, 1), max(o.Workers, 1)
	p := &Pool{opts: o}
	p.ticker = time.AfterFunc(time.Hour, p.tick)
	p.ticker.Stop()
	return p
}

// prefetch is how many requests may wait in a worker's ring behind those that run.
// One worker is never wrong about who should run them. With several, a request is
// taken back (Revoke) when another worker is free, which only shared memory can do.
func (p *Pool) prefetch(revokes bool) int {
	switch {
	case p.opts.Workers == 1:
		return Prefetch
	case revokes:
		return max(4, p.opts.Threads)
	default:
		return 0
	}
}

// Attach gives the pool a worker that answered READY.
func (p *Pool) Attach(slot string, l *link.Link, ready link.Ready) {
	w := &worker{slot: slot, link: l, revokes: l.Status().Transport == link.SharedMemory}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.sides[wsgi] = side{limit: p.opts.Threads, window: p.opts.Threads + p.prefetch(w.revokes)}
	w.sides[asgi] = side{limit: p.opts.Concurrency, window: p.opts.Concurrency}
	for i, a := range p.apps {
		if i < len(ready.Apps) && ready.Apps[i].Kind == "asgi" {
			a.kind.Store(int32(asgi))
		} else {
			a.kind.Store(int32(wsgi))
		}
	}
	p.unavailable = nil
	p.attached++
	w.number = p.attached
	p.workers = append(p.workers, w)
	slices.SortFunc(p.workers, func(a, b *worker) int { return cmp.Compare(a.slot, b.slot) })
	for f := p.early.first; f != nil; f = p.early.first {
		p.early.remove(f)
		f.place = placeNone
		f.ring()
	}
	p.feed(w)
}

// Detach takes a worker away: no new request goes to it. Those it has learn of its
// end from their streams.
func (p *Pool) Detach(l *link.Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers = slices.DeleteFunc(p.workers, func(w *worker) bool {
		if w.link != l {
			return false
		}
		w.gone = true
		p.total.Exchanges += w.settled
		return true
	})
	p.tellIdle()
}

// Cordon lets a worker come to its end: it gets no new request, what has not started is
// taken back from it, and what has goes on until Detach.
func (p *Pool) Cordon(l *link.Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if w.link != l {
			continue
		}
		w.leaving = true
		p.startTicking() // for requests that have their seat and are not sent yet
		for k := range w.sides {
			for f := w.sides[k].flights.first; f != nil; f = f.next {
				if f.waiting() {
					f.tell(newsRequeue)
				}
			}
		}
		w.endSockets()
	}
}

// Unavailable says that no worker can be had for now, because booting fails: who
// waits, and who comes until the next Attach, is answered 503 at once. It does
// nothing while there is a worker.
func (p *Pool) Unavailable(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.workers) > 0 {
		return
	}
	p.unavailable = why
	p.refuseWaiting(func(*flight) *exchange.Problem { return p.unavailableProblem() })
}

// Stop refuses new requests and cuts those under way: they get 503 where they had
// not started, otherwise CANCEL.
func (p *Pool) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.ticker.Stop()
	p.refuseWaiting(func(*flight) *exchange.Problem { return stoppingProblem() })
	for _, w := range p.workers {
		for k := range w.sides {
			for f := w.sides[k].flights.first; f != nil; f = f.next {
				f.tell(newsStopping)
			}
		}
	}
}

// RequestID names the request on a stream of a worker, for its log messages; empty
// when there is none any more.
func (p *Pool) RequestID(l *link.Link, stream uint32) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if w.link != l {
			continue
		}
		for k := range w.sides {
			for f := w.sides[k].flights.first; f != nil; f = f.next {
				if f.number.Load() == stream {
					return f.id
				}
			}
		}
	}
	return ""
}

func (p *Pool) refuseWaiting(why func(*flight) *exchange.Problem) {
	refuse := func(l *list) {
		for f := l.first; f != nil; f = l.first {
			l.remove(f)
			f.place, f.refusal = placeRefused, why(f)
			f.ring()
		}
	}
	for k := range p.queues {
		refuse(&p.queues[k])
	}
	refuse(&p.early)
}

var (
	errStopping  = errors.New("the server is stopping")
	errQueueFull = errors.New("the queue of the group is full")
	errQueueWait = errors.New("no worker was free in time")
)

func (p *Pool) unavailableProblem() *exchange.Problem {
	problem := &exchange.Problem{Status: 503, Code: "app_unavailable", RetryAfter: 2, Err: p.unavailable}
	if boot := (*link.BootError)(nil); p.opts.Dev && errors.As(p.unavailable, &boot) {
		problem.Detail = strings.Trim(boot.Traceback+"\n"+boot.Error()+"\n"+boot.Hint, "\n")
		problem.Headline, problem.Passing = boot.App+" cannot start: "+boot.Message, true
	}
	return problem
}

func stoppingProblem() *exchange.Problem {
	return &exchange.Problem{Status: 503, Code: "stopping", RetryAfter: 1, Err: errStopping}
}

// admit seats f on a worker, or puts it into the queue (queued), or refuses it.
func (p *Pool) admit(f *flight) (queued bool, problem *exchange.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.queues[f.kind]
	if p.stopping {
		return false, stoppingProblem()
	}
	if q.n == 0 {
		if w := p.pick(f.kind); w != nil {
			p.seat(f, w)
			return false, nil
		}
	}
	if p.unavailable != nil && len(p.workers) == 0 {
		return false, p.unavailableProblem()
	}
	if f.again {
		q.pushFront(f) // it waited once already, and was promised to be sent again
	} else {
		if p.queues[wsgi].n+p.queues[asgi].n+p.early.n >= p.opts.Queue {
			p.total.Refused++
			return false, &exchange.Problem{Status: 503, Code: "queue_full", RetryAfter: 1, Err: errQueueFull}
		}
		q.pushBack(f)
	}
	p.total.Queued++
	f.place, f.since = placeQueued, time.Now()
	p.startTicking()
	return true, nil
}

// admitEarly makes f wait for the first worker; false when the kinds are known.
func (p *Pool) admitEarly(f *flight) (bool, *exchange.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f.app.kind.Load() >= 0:
		return false, nil
	case p.stopping:
		return false, stoppingProblem()
	case p.unavailable != nil:
		return false, p.unavailableProblem()
	case p.early.n >= p.opts.Queue:
		p.total.Refused++
		return false, &exchange.Problem{Status: 503, Code: "queue_full", RetryAfter: 1, Err: errQueueFull}
	}
	p.early.pushBack(f)
	f.place, f.since = placeQueued, time.Now()
	p.startTicking()
	return true, nil
}

// pick finds the worker for the next request: the one with the fewest under way that
// can run it at once, the first of equals (its caches are warm); else the one with
// the fewest waiting in its ring.
func (p *Pool) pick(k kind) *worker {
	var free, ahead *worker
	for _, w := range p.workers {
		if w.leaving {
			continue
		}
		s := &w.sides[k]
		n := s.used()
		if n < s.limit && (free == nil || n < free.sides[k].used()) {
			free = w
		}
		if n < w.room(k) && (ahead == nil || n < ahead.sides[k].used()) {
			ahead = w
		}
	}
	if free != nil {
		return free
	}
	return ahead
}

func (p *Pool) seat(f *flight, w *worker) {
	s := &w.sides[f.kind]
	s.flights.pushBack(f)
	f.era, f.slow = p.era, false
	f.seat, f.place, f.tickSeated = w, placeSeated, p.ticks
	over := s.flights.n > s.limit
	f.ahead = over && len(p.workers) > 1
	if f.timed || over && (len(p.workers) > 1 || p.opts.QueueWait > 0) {
		p.startTicking()
	}
}

// sent is called when a request that must wait in a ring has got there: a thread
// may have become free meanwhile, and could not take what was not there yet.
func (p *Pool) sent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stealForAll()
}

func (p *Pool) stealForAll() {
	if len(p.workers) < 2 || p.stopping {
		return
	}
	for _, w := range p.workers {
		p.steal(w)
	}
}

// release gives f's seat back and lets the next one have it. ended: the worker is
// through with the exchange, and not: it was taken back.
func (p *Pool) release(f *flight, ended bool) {
	f.behind()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := f.seat
	if w == nil {
		return
	}
	w.sides[f.kind].flights.remove(f)
	if ended {
		w.stuck = false
		if w.settled++; w.gone {
			p.total.Exchanges++
		}
	}
	f.seat, f.place = nil, placeNone
	p.unlend(f)
	if f.target != nil {
		p.unreserve(f)
	}
	if !w.gone {
		p.feed(w)
	}
	p.tellIdle()
}

// feed gives w what it has room for: from the queue, else what waits in the ring of
// a busy worker.
func (p *Pool) feed(w *worker) {
	for k := range w.sides {
		s, q := &w.sides[k], &p.queues[k]
		for s.used() < w.room(kind(k)) && q.first != nil {
			f := q.first
			q.remove(f)
			p.seat(f, w)
			f.ring()
		}
	}
	if len(p.workers) > 1 && !p.stopping {
		p.steal(w)
	}
}

// steal reserves w's free threads for requests that wait in the rings of others. The
// goroutine of such a request takes it back from its worker (see flight.move) and
// either comes over or, when it had started meanwhile, gives the reservation back.
func (p *Pool) steal(w *worker) {
	s := &w.sides[wsgi]
	for !w.leaving && s.used() < s.limit {
		f := p.victim(w)
		if f == nil {
			return
		}
		s.reserved++
		f.target = w
		f.tell(newsMove)
	}
}

// victim is the oldest request that waits in the ring of another worker; the worker
// with the most waiting gives first.
func (p *Pool) victim(free *worker) *flight {
	var from *worker
	for _, w := range p.workers {
		s := &w.sides[wsgi]
		if w != free && w.revokes && s.flights.n > s.limit &&
			(from == nil || s.flights.n > from.sides[wsgi].flights.n) {
			from = w
		}
	}
	if from == nil {
		return nil
	}
	for f := from.sides[wsgi].flights.first; f != nil; f = f.next {
		if f.target == nil && f.waiting() {
			return f
		}
	}
	return nil
}

// move seats f, which was taken back from its worker, on the one that reserved a
// thread for it; false when that one is gone.
func (p *Pool) move(f *flight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, to := f.seat, f.target
	from.sides[f.kind].flights.remove(f)
	f.seat, f.place = nil, placeNone
	p.total.Moved++
	p.unreserveQuietly(f)
	ok := !to.gone && !p.stopping
	if ok {
		p.seat(f, to)
	}
	if !from.gone {
		p.feed(from)
	}
	return ok
}

// stay gives the reservation back: the request had started where it was.
func (p *Pool) stay(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.target != nil {
		p.unreserve(f)
	}
}

func (p *Pool) unreserve(f *flight) {
	w := f.target
	p.unreserveQuietly(f)
	if !w.gone {
		p.feed(w)
	}
}

func (p *Pool) unreserveQuietly(f *flight) {
	f.target.sides[wsgi].reserved--
	f.target = nil
}
