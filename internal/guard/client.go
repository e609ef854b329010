package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Variable names the host in the environment of everything it starts: the guard ends
// whoever carries it. InstanceOf tells the guard which; its own name differs, or it
// would end itself.
const (
	Variable   = "GUADO_INSTANCE"
	InstanceOf = "GUADO_GUARD_OF"
)

const (
	// answerTime bounds the wait for a guard's answer.
	answerTime = 5 * time.Second
	// endTime bounds its last work: children that were given grace, and the sweep.
	endTime = 15 * time.Second
	// againFirst and againMost bound the pause before a guard that died is replaced.
	againFirst = 50 * time.Millisecond
	againMost  = 10 * time.Second
)

var (
	errClosed = errors.New("the guard is told of no more processes: the host is stopping")
	errAway   = errors.New("no guard could be started")
)

// Options of a client.
type Options struct {
	// Command makes a guard's process that has no descriptors yet; the client gives it
	// the socket as descriptor 3.
	Command  func() *exec.Cmd
	Instance string
	Log      *slog.Logger
	// Started and Ended are told the guard's process id, around its life.
	Started, Ended func(pid int)
}

// Client is the host's end: it keeps a guard alive and tells it of the children. One
// that died is replaced, and told the list.
type Client struct {
	opts Options
	done chan struct{} // closed when keep has returned
	quit chan struct{}
	once sync.Once

	mu     sync.Mutex // guards all below; held while a line is written and answered
	conn   *net.UnixConn
	in     *json.Decoder
	pid    int
	seq    uint64
	list   map[int]Entry
	up     chan struct{} // closed while a guard is there
	closed bool
	lost   chan struct{} // the guard of conn does not answer
}

// NewClient starts a guard, in the background: [Client.Add] waits for it.
func NewClient(o Options) *Client {
	c := &Client{opts: o, done: make(chan struct{}), quit: make(chan struct{}), list: map[int]Entry{}, up: make(chan struct{})}
	go c.keep()
	return c
}

// keep starts guards, one after the other, until Close.
func (c *Client) keep() {
	defer close(c.done)
	for pause := againFirst; ; pause = min(2*pause, againMost) {
		cmd, conn, err := c.start()
		if err == nil {
			began := time.Now()
			c.serve(cmd, conn)
			if time.Since(began) > againMost {
				pause = againFirst
			}
		} else {
			c.opts.Log.Error("the guard cannot be started; workers would be left behind if the host were killed", "error", err.Error())
		}
		select {
		case <-c.quit:
			return
		case <-time.After(pause):
		}
	}
}

// start makes a guard's process and a socket to it.
func (c *Client) start() (*exec.Cmd, *net.UnixConn, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = theirs.Close() }() // the child has its own
	cmd := c.opts.Command()
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = append(cmd.Env, InstanceOf+"="+c.opts.Instance)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = ours.Close() // as above
		return nil, nil, err
	}
	c.opts.Started(cmd.Process.Pid)
	return cmd, ours, nil
}

// pair makes a connected pair of sockets.
func pair() (*net.UnixConn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("socket to the guard: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "guard"), os.NewFile(uintptr(fds[1]), "guard")
	conn, err := net.FileConn(mine)
	_ = mine.Close() // conn has a copy
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("socket to the guard: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

// serve tells a new guard the list and waits for its end.
func (c *Client) serve(cmd *exec.Cmd, conn *net.UnixConn) {
	c.mu.Lock()
	c.conn, c.in, c.pid, c.lost = conn, json.NewDecoder(conn), cmd.Process.Pid, make(chan struct{})
	lost := c.lost
	ok := !c.closed
	if c.closed {
		_ = conn.Close() // it ends itself
	}
	for _, e := range c.list {
		ok = ok && c.say(message{Do: "add", Entry: e}, answerTime) == nil
	}
	if ok {
		close(c.up)
	}
	c.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is nothing anybody could act on
	}()
	select {
	case <-ended:
	case <-lost:
		_ = cmd.Process.Kill()
		<-ended
	}
	c.opts.Ended(cmd.Process.Pid)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = conn.Close() // its other end is gone
	c.conn, c.pid = nil, 0
	if ok {
		c.up = make(chan struct{})
	}
	if !c.closed {
		c.opts.Log.Warn("the guard died and is replaced", "state", cmd.ProcessState.String(), "processes", len(c.list))
	}
}

// say sends a line and waits for its answer. A guard that gives none is given up.
// Called with c.mu held.
func (c *Client) say(m message, within time.Duration) error {
	c.seq++
	m.Seq = c.seq
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	err = c.conn.SetDeadline(time.Now().Add(within))
	if err == nil {
		_, err = c.conn.Write(line)
	}
	var answer message
	if err == nil {
		err = c.in.Decode(&answer)
	}
	if err == nil && answer.Seq != m.Seq {
		err = fmt.Errorf("answer %d to line %d", answer.Seq, m.Seq)
	}
	if err != nil {
		select {
		case <-c.lost:
		default:
			close(c.lost)
		}
		return fmt.Errorf("the guard does not answer: %w", err)
	}
	return nil
}

// Add tells the guard of a child and returns when it has it. An error means that the
// child is on the list of the next guard only.
func (c *Client) Add(e Entry) error {
	late := time.NewTimer(answerTime)
	defer late.Stop()
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return errClosed
		}
		c.list[e.PID] = e
		up := c.up
		if c.conn != nil && isClosed(up) && c.say(message{Do: "add", Entry: e}, answerTime) == nil {
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		select {
		case <-up:
			if !c.await(late) { // the one that was there is being replaced
				return errAway
			}
		case <-late.C:
			return errAway
		case <-c.done:
			return errClosed
		}
	}
}

// await lets keep notice that a guard does not answer.
func (c *Client) await(late *time.Timer) bool {
	select {
	case <-time.After(againFirst):
		return true
	case <-late.C:
		return false
	}
}

func isClosed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Drop takes a child off the list. reap frees its number, while no guard can be told
// of it any more: it may become another's.
func (c *Client) Drop(pid int, reap func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reap()
	delete(c.list, pid)
	if c.conn != nil && isClosed(c.up) && !c.closed {
		_ = c.say(message{Do: "drop", Entry: Entry{PID: pid}}, answerTime) // else it is replaced, and not told of this one
	}
}

// PID is the guard's process; 0 while there is none.
func (c *Client) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Close lets the guard end what is left of the host's processes, and itself.
func (c *Client) Close() {
	c.once.Do(func() {
		close(c.quit)
		c.mu.Lock()
		c.closed = true
		if c.conn != nil {
			_ = c.say(message{Do: "end"}, endTime) // else serve ends it
			_ = c.conn.Close()
		}
		c.mu.Unlock()
	})
	<-c.done
}
