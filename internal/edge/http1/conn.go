package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// conn is a connection: what must stay while it idles. All that an exchange needs
// is in work, which goes back to a pool meanwhile; ten thousand idle connections
// are the reason.
type conn struct {
	server *Server
	nc     net.Conn
	info   *lane.Conn
	raw    syscall.RawConn // of the socket below nc; nil when there is none
	plain  bool            // nc is the socket itself: we may read it by hand
	w      *work           // nil while idle

	rd, wr          side
	readBy, writeBy atomic.Int64 // deadlines that a handler set, Unix ns; 0 none
	// Idle times in ticks that a step set for the running exchange; 0: the server's.
	readIdle, writeIdle atomic.Int64
	idleSet             bool
	requests            int
	large               bool // the last request did not fit into the usual buffer
	index               int  // in Server.conns, guarded by Server.mu

	// Used by the sweeper alone.
	seen       word  // reading side at its last look
	queue      int   // bytes in the socket's send queue at its last look
	queueMoved int64 // tick at which queue last changed

	// awaitFn is tryRead as a value, made once; got and gotErr are its result.
	awaitFn func(fd uintptr) bool
	got     int
	gotErr  error
	probe   bool // tryRead: do not wait
	// sendFn is trySend as a value; toSend is what it has left, sentErr its result.
	sendFn  func(fd uintptr) bool
	toSend  [][]byte
	sentErr error
	first   [1]byte // the idle read of connections that are not plain

	mu    sync.Mutex // guards poked, watch, and the order of changes to the read deadline
	poked bool       // the read deadline lies in the past
	watch *watch     // with watchedFlag
}

// maxParts is how many parts one write has: buffered head, piece of body, end of chunk.
const maxParts = 3

// work is what a connection holds while it is not idle.
type work struct {
	x      *exchange.Exchange
	in     input
	out    []byte
	head   head
	body   body
	answer answer
	vecs   [maxParts][]byte
	vec    net.Buffers
}

func newWork() *work {
	w := &work{x: exchange.New(), out: make([]byte, 0, bufferSize)}
	w.in.clear()
	return w
}

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

func (s *Server) newConn(nc net.Conn, info *lane.Conn) *conn {
	c := &conn{server: s, nc: nc, info: info}
	if sc, ok := below(nc).(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil { // a closed one fails at its first read, too
			c.raw = raw
		}
	}
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		c.plain = c.raw != nil
	}
	c.awaitFn, c.sendFn = c.tryRead, c.trySend
	return c
}

// below gives the connection under TLS, or nc itself.
func below(nc net.Conn) net.Conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return nc
}

func (c *conn) tick() int64 { return c.server.clock.tick() }

// acquire takes what an exchange needs from the pool; release gives it back.
func (c *conn) acquire() *work {
	if c.w == nil {
		c.w = c.server.works.Get().(*work)
	}
	return c.w
}

func (c *conn) release() {
	w := c.w
	if w == nil {
		return
	}
	c.w = nil
	w.in.clear()
	if cap(w.out) > keptSize {
		w.out = make([]byte, 0, bufferSize)
	}
	w.out = w.out[:0]
	w.x.Reset()
	w.body.reset()
	w.answer.reset()
	c.server.works.Put(w)
}

// run serves one exchange after the other until the connection ends or leaves HTTP.
func (c *conn) run() {
	c.rd.enter(reading, c.tick())
	for c.await() && c.next() {
	}
	// CloseAll watches connections that are busy: a head that broke off left it so.
	if old := c.rd.enter(readOver, c.tick()); old.watched() {
		c.endWatch()
	}
	c.release()
}

// await blocks until bytes of the next request are buffered. While it waits the
// connection holds no buffer.
func (c *conn) await() bool {
	if c.w != nil && len(c.w.in.buffered()) > 0 {
		return true
	}
	draining := c.server.draining.Load()
	n, err := c.readFirst(draining)
	if n > 0 || draining || !c.plain || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n > 0
	}
	// A request may already lie in the socket of an idle connection that the sweeper
	// or Drain ends: look once more before it is closed, so that its client gets an
	// answer and not a reset.
	c.soothe()
	n, _ = c.readFirst(true)
	return n > 0
}

// readFirst reads the first bytes of a request into the input buffer. probe makes
// it look once and not wait (plain connections only).
func (c *conn) readFirst(probe bool) (int, error) {
	if !c.plain {
		if probe {
			return 0, nil
		}
		return c.readFirstByte()
	}
	c.got, c.gotErr, c.probe = 0, nil, probe
	if err := c.raw.Read(c.awaitFn); err != nil {
		return 0, err
	}
	return c.got, c.gotErr
}

// tryRead reads without blocking, in the hands of the runtime's poller. It says
// false, wait, when there is nothing; the buffer then goes back to the pool. (A read
// that finds nothing cannot be spared: the poller tells of changes only.)
func (c *conn) tryRead(fd uintptr) bool {
	in := &c.acquire().in
	if c.large {
		in.enlarge(bodyBuffer)
	}
	p := in.space(bufferSize)
	for {
		n, err := recvNow(fd, p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.release()
			return c.probe
		case err != 0:
			c.gotErr = os.NewSyscallError("recv", err)
		case n == 0:
			c.gotErr = io.EOF
		default:
			c.got = n
			in.w += n
		}
		return true
	}
}

// readFirstByte waits for one byte without a buffer: under TLS the rest of the
// record is decrypted already and costs no further system call.
func (c *conn) readFirstByte() (int, error) {
	c.release()
	n, err := c.nc.Read(c.first[:])
	if n > 0 {
		c.acquire().in.push(c.first[0])
	}
	return n, err
}

// poke wakes whoever reads from the socket. The deadline may fail to be set on a
// closed connection only, where nobody waits.
func (c *conn) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.poked = true
	_ = c.nc.SetReadDeadline(past)
}

// soothe takes a poke back. It waits for one that is about to come: flags are
// raised with mu held.
func (c *conn) soothe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.poked {
		c.poked = false
		_ = c.nc.SetReadDeadline(time.Time{})
	}
}

// expire ends a wait of the reading side that began with old.
func (c *conn) expire(old word) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rd.flag(old, expiredFlag) {
		c.poked = true
		_ = c.nc.SetReadDeadline(past)
	}
}

// expireWrite ends a wait of the writing side. Its deadline is never taken back:
// what was written in part cannot be gone on with.
func (c *conn) expireWrite(old word) {
	if c.wr.flag(old, expiredFlag) {
		_ = c.nc.SetWriteDeadline(past)
	}
}
