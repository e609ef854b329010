// Package executor answers the calls of workers: each becomes an exchange of the pool
// of an executor, whose workers run it. What is called, with which arguments, and what
// comes of it are opaque bytes here.
// Before it: link, which brings the calls. After it: pool, as exchange.Handler.
// Not here: processes (supervise), pickling (guado/executors.py).
package executor

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// Bounds of what one worker can make the host keep.
const (
	maxCalls = 4096
	maxBytes = 256 << 20 // of data
	// maxResult bounds what a task returns.
	maxResult = 64 << 20
)

// Options of an executor.
type Options struct {
	Name    string
	Handler exchange.Handler // its pool
	Running int              // tasks that its processes can run at once
	Queue   int              // tasks that may wait besides; more are refused
	Timeout time.Duration    // of a task that has none of its own; 0: none
}

// Status is an executor as the admin API, the command line and the dashboard show it.
type Status struct {
	Name      string `json:"name"`
	Waiting   int    `json:"waiting"` // tasks that wait or run
	Done      uint64 `json:"done"`    // came to an end, a failed function included
	Refused   uint64 `json:"refused"` // the queue was full
	Expired   uint64 `json:"expired"` // over their deadline
	Lost      uint64 `json:"lost"`    // their process died
	Cancelled uint64 `json:"cancelled"`
}

// Hub is all executors of a host.
type Hub struct {
	wait   sync.WaitGroup
	serial atomic.Uint64

	mu        sync.Mutex // guards the rest
	executors map[string]*pool
	order     []*pool // of those that the configuration has
}

// pool is one executor.
type pool struct {
	name string
	way  atomic.Pointer[way]

	mu     sync.Mutex // guards status
	status Status
}

// way is how an executor runs its tasks. It counts those that are on it, so that the
// processes of before are not ended under them.
type way struct {
	Options
	under   atomic.Int64
	retired atomic.Bool
	once    sync.Once
	empty   chan struct{} // closed when it is retired and nobody is on it
}

func newWay(o Options) *way { return &way{Options: o, empty: make(chan struct{})} }

// take counts a task on the way as it is now. It counts first and looks then, and retire
// does both the other way round, so that none of them misses the other.
func (p *pool) take() *way {
	for {
		w := p.way.Load()
		w.under.Add(1)
		if !w.retired.Load() {
			return w
		}
		w.leave()
	}
}

func (w *way) leave() {
	if w.under.Add(-1) == 0 && w.retired.Load() {
		w.once.Do(func() { close(w.empty) })
	}
}

// retire ends it, once there is another one.
func (w *way) retire() {
	w.retired.Store(true)
	if w.under.Load() == 0 {
		w.once.Do(func() { close(w.empty) })
	}
}

// New makes a hub.
func New(list []Options) *Hub {
	h := &Hub{executors: map[string]*pool{}}
	h.Add(list)
	h.Change(list)
	return h
}

// Add takes executors that are not there yet: workers may call them, and nobody is shown
// them before they are among those of [Hub.Change].
func (h *Hub) Add(list []Options) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range list {
		if h.executors[o.Name] == nil {
			p := &pool{name: o.Name, status: Status{Name: o.Name}}
			p.way.Store(newWay(o))
			h.executors[o.Name] = p
		}
	}
}

// Change gives the executors, all of which have been added, other options: tasks that
// come from now on go by them. One that is not among them is still there for the workers
// that know it, until [Hub.Keep]. What it gives is closed when the tasks of before have
// come to their ends.
func (h *Hub) Change(list []Options) (through []<-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.order = nil
	for _, o := range list {
		p := h.executors[o.Name]
		before := p.way.Swap(newWay(o))
		before.retire()
		through = append(through, before.empty)
		h.order = append(h.order, p)
	}
	return through
}

// Keep forgets all executors but those that are shown.
func (h *Hub) Keep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.executors = map[string]*pool{}
	for _, p := range h.order {
		h.executors[p.name] = p
	}
}

// find gives the executor with this name; nil when there is none.
func (h *Hub) find(name string) *pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.executors[name]
}

// Status tells how the executors are.
func (h *Hub) Status() []Status {
	h.mu.Lock()
	order := h.order
	h.mu.Unlock()
	all := make([]Status, 0, len(order))
	for _, p := range order {
		p.mu.Lock()
		all = append(all, p.status)
		p.mu.Unlock()
	}
	return all
}

// Wait returns when no task is under way. Nothing may call any more.
func (h *Hub) Wait() { h.wait.Wait() }

// Callee answers the calls that come over a link.
func (h *Hub) Callee(l *link.Link) link.Callee {
	return &caller{hub: h, reply: l.Reply, tasks: map[uint32]*task{}}
}

// caller is a worker that calls.
type caller struct {
	hub   *Hub
	reply func(id uint32, status uint16, code string, data []byte) error

	mu    sync.Mutex // guards all below
	tasks map[uint32]*task
	bytes int
	ended bool
}

var errTwice = errors.New("a call with this number is under way")

// Call starts a task, or refuses it.
func (c *caller) Call(id uint32, call link.Call) {
	p := c.hub.find(call.Name)
	switch {
	case call.What != link.CallExecute:
		c.answer(id, 404, "unknown_call", fmt.Sprintf("the host knows no call %d", call.What))
		return
	case p == nil:
		c.answer(id, 404, "unknown_executor", fmt.Sprintf("there is no executor %q", call.Name))
		return
	case call.TooLarge:
		c.answer(id, 413, "call_too_large", "function and arguments are more than 64 MiB")
		return
	}
	t := newTask(c, p, id, call)
	if err := c.enter(t); err != nil {
		t.way.leave()
		c.answer(id, 503, "queue_full", err.Error())
		return
	}
	if err := p.enter(t.way); err != nil {
		t.way.leave()
		c.leave(t)
		c.answer(id, 503, "queue_full", err.Error())
		return
	}
	c.hub.wait.Go(t.run)
}

// answer refuses a call. A link that has ended needs no answer.
func (c *caller) answer(id uint32, status uint16, code, text string) {
	_ = c.reply(id, status, code, []byte(text))
}

func (c *caller) enter(t *task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return link.ErrClosed
	case c.tasks[t.id] != nil:
		return errTwice
	case len(c.tasks) >= maxCalls:
		return fmt.Errorf("this worker has %d calls under way already", maxCalls)
	case c.bytes+len(t.data) > maxBytes:
		return fmt.Errorf("the calls of this worker hold %d MiB already", c.bytes>>20)
	}
	c.tasks[t.id] = t
	c.bytes += len(t.data)
	return nil
}

// leave forgets a task; false when that was done already.
func (c *caller) leave(t *task) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks[t.id] != t {
		return false
	}
	delete(c.tasks, t.id)
	c.bytes -= len(t.data)
	return true
}

// Cancel ends a task that nobody waits for any more: one that waits is never run.
func (c *caller) Cancel(id uint32) {
	c.mu.Lock()
	t := c.tasks[id]
	c.mu.Unlock()
	if t != nil && c.leave(t) {
		t.cancel()
	}
}

// End cancels what a worker that has ended had called.
func (c *caller) End() {
	c.mu.Lock()
	c.ended = true
	tasks := c.tasks
	c.tasks = map[uint32]*task{}
	c.mu.Unlock()
	for _, t := range tasks {
		t.cancel()
	}
}

// enter takes a place in the queue.
func (p *pool) enter(w *way) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.Waiting >= w.Running+w.Queue {
		p.status.Refused++
		return fmt.Errorf("executor %s runs %d tasks and %d wait", p.name, w.Running, w.Queue)
	}
	p.status.Waiting++
	return nil
}

// left counts how a task ended.
func (p *pool) left(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Waiting--
	switch code := t.code(); {
	case t.cancelled.Load():
		p.status.Cancelled++
	case code == "":
		p.status.Done++
	case code == "deadline":
		p.status.Expired++
	case code == "worker_died":
		p.status.Lost++
	default:
		p.status.Refused++
	}
}
