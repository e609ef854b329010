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
	executors map[string]*pool
	order     []*pool
	wait      sync.WaitGroup
	serial    atomic.Uint64
}

// pool is one executor.
type pool struct {
	opts Options

	mu     sync.Mutex // guards status
	status Status
}

// New makes a hub.
func New(list []Options) *Hub {
	h := &Hub{executors: map[string]*pool{}}
	for _, o := range list {
		p := &pool{opts: o, status: Status{Name: o.Name}}
		h.executors[o.Name] = p
		h.order = append(h.order, p)
	}
	return h
}

// Status tells how the executors are.
func (h *Hub) Status() []Status {
	all := make([]Status, 0, len(h.order))
	for _, p := range h.order {
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
	p := c.hub.executors[call.Name]
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
		c.answer(id, 503, "queue_full", err.Error())
		return
	}
	if err := p.enter(); err != nil {
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
func (p *pool) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.Waiting >= p.opts.Running+p.opts.Queue {
		p.status.Refused++
		return fmt.Errorf("executor %s runs %d tasks and %d wait", p.opts.Name, p.opts.Running, p.opts.Queue)
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
