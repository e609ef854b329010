package supervise

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/link"
)

// pingEvery is the pulse; a shorter PingTimeout makes it faster.
const pingEvery = 5 * time.Second

// slot is the place of one worker; its goroutine is run. While a worker is replaced
// there are two: the one in front, which serves, and the one that is coming.
type slot struct {
	group   *Group
	name    string
	journal *journal
	again   chan struct{} // there are orders

	mu       sync.Mutex // guards all below, and what workers say it guards
	front    *worker
	coming   *worker   // boots while the one in front serves
	old      []*worker // replaced, and not gone yet
	starts   int
	last     string // why the last worker ended
	nextRun  time.Time
	restarts map[Reason]uint64
	orders   []order
	waiting  []chan<- error // who is told of the next boot
}

// order is what somebody wants of a slot.
type order struct {
	what command
	why  Reason
	done chan<- error // told how it ended; nil: nobody waits. It has room for one
}

type command int

const (
	restart command = iota // end the worker, then start it anew
	replace                // start the next one, then end the worker
	halt                   // end the worker and start none
)

func newSlot(g *Group, name string) *slot {
	s := &slot{group: g, name: name, again: make(chan struct{}, 1), restarts: map[Reason]uint64{}}
	s.journal = newJournal(g.o().Name, name, g.o().OutputLimit)
	s.front = &worker{slot: s, state: Stopped, since: time.Now()}
	return s
}

// order puts an order into the slot's list.
func (s *slot) order(o order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, o)
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// take gives the last order, which stands for all before it; who waits for one of them
// waits for the next boot. false: there is none.
func (s *slot) take() (order, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) == 0 {
		return order{}, false
	}
	o := s.orders[len(s.orders)-1]
	for _, each := range s.orders {
		if each.done != nil && o.what != halt {
			s.waiting = append(s.waiting, each.done)
		} else if each.done != nil {
			each.done <- nil
		}
	}
	s.orders = nil
	select { // the bell of an order that was taken with an earlier one
	case <-s.again:
	default:
	}
	return o, true
}

// answer tells those who wait for a boot how it ended.
func (s *slot) answer(err error) {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, done := range waiting {
		done <- err
	}
}

func (s *slot) current() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.front.state
}

// kill ends all workers of the slot at once, whatever they are doing.
func (s *slot) kill(why error) {
	s.mu.Lock()
	all := append(slices.Clone(s.old), s.front)
	if s.coming != nil {
		all = append(all, s.coming)
	}
	s.mu.Unlock()
	for _, w := range all {
		if p := w.process(); p != nil {
			p.kill(why)
		}
	}
}

// process gives the worker's process once it was started.
func (w *worker) process() *process {
	w.slot.mu.Lock()
	defer w.slot.mu.Unlock()
	return w.p
}

// fresh puts a worker in front that is where the last one ended.
func (s *slot) fresh() *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.front = &worker{slot: s, state: s.front.state, since: s.front.since}
	return s.front
}

func (s *slot) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.last = err.Error()
	}
}

func (s *slot) count(why Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts[why]++
}

// left forgets a worker that was replaced and is gone.
func (s *slot) left(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = slices.DeleteFunc(s.old, func(o *worker) bool { return o == w })
}

// run keeps a worker in the slot until ctx ends.
func (s *slot) run(ctx context.Context) {
	var retry retries
	var next *worker
	for ctx.Err() == nil {
		w := next
		if w == nil {
			var ok bool
			if w, ok = s.boot(ctx, &retry); !ok {
				continue
			}
		}
		var err error
		next, err = s.serve(ctx, w)
		served := time.Since(w.began)
		retry.served(served)
		switch {
		case next != nil || ctx.Err() != nil:
		case errors.Is(err, errHalt):
			w.move(Stopped)
			s.hold(ctx)
		case errors.Is(err, errRestart):
			retry.reset()
			w.move(Stopped)
		case served < s.group.o().settled() || errors.Is(err, link.ErrCorrupt):
			s.rest(ctx, w, &retry.deaths, false, err)
		default:
			w.move(Stopped)
		}
	}
	if next != nil { // it took over just when the host began to stop
		next.end(ctx, ctx.Err())
	}
	s.answer(errClosing)
	if st := s.current(); st != Stopped {
		s.front.move(Stopped)
	}
}

var (
	errHalt    = errors.New("an operator has stopped it")
	errClosing = errors.New("the host is stopping")
)

// boot starts a worker in front and gives it requests; false: it could not boot, and
// the time until the next try is over.
func (s *slot) boot(ctx context.Context, retry *retries) (*worker, bool) {
	w := s.fresh()
	err := w.boot(ctx, s.again)
	switch {
	case err == nil:
		retry.ready()
		w.attach()
		s.answer(nil)
		return w, true
	case ctx.Err() != nil:
		s.note(err)
	case errors.Is(err, errRestart):
		w.move(Stopped)
		if o, ok := s.take(); ok && o.what == halt {
			s.hold(ctx)
		}
	default:
		s.note(err)
		s.count(ByBoot)
		s.answer(err)
		s.group.tell(s, err)
		s.rest(ctx, w, &retry.boots, true, err)
		return nil, false
	}
	return nil, false
}

// rest counts a failure and waits for the next start: for a time, or, after too many,
// for an order. In development the same code would only fail again: the next start is
// that of a change. boot: it was not ready yet. Requests are refused as long as no
// worker can boot, and wait through deaths behind that: the next one may serve them.
func (s *slot) rest(ctx context.Context, w *worker, retry *backoff, boot bool, why error) {
	o := s.group.o()
	pause := retry.failed()
	frozen := retry.over(o.FreezeAfter) && !o.Hello.Dev
	s.mu.Lock()
	s.nextRun = time.Now().Add(pause)
	s.mu.Unlock()
	if frozen {
		w.move(Frozen)
		retry.reset()
		o.Log.Error("worker is frozen: it failed too often and is not started again by itself", "slot", s.name, "group", o.Name,
			"failures", o.FreezeAfter, "error", why.Error(), "hint", "correct it, then reload, or restart the worker", "output", text(s.journal.tail()))
	} else {
		w.move(BackingOff)
	}
	if frozen || boot {
		s.group.hopeless(s, why)
	}
	var over <-chan time.Time
	switch {
	case frozen:
	case o.Hello.Dev:
		o.Log.Info("the worker is started again when a file changes", "slot", s.name, "group", o.Name)
	default:
		o.Log.Info("next start of the worker is put off", "slot", s.name, "group", o.Name, "seconds", pause.Round(time.Millisecond).Seconds())
		t := time.NewTimer(pause)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-ctx.Done():
	case <-s.again:
		if order, ok := s.take(); ok && order.what == halt {
			w.move(Stopped)
			s.hold(ctx)
		}
	}
}

// hold keeps the slot empty until it is ordered to start.
func (s *slot) hold(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.again:
			if o, ok := s.take(); ok && o.what != halt {
				return
			}
		}
	}
}
