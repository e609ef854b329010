package websocket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/internal/exchange"
)

// Socket is one WebSocket. Its goroutine reads (read.go); whoever sends writes at once
// what the connection takes, and only for the rest there is a goroutine, until that has
// left (write.go).
type Socket struct {
	server  *Server
	limits  *Limits
	handler exchange.SocketHandler
	nc      net.Conn
	raw     syscall.RawConn // of nc itself; nil under TLS
	addr    netip.Addr      // counted for; invalid: none
	deflate int             // window of what is sent, in bytes; 0: no compression

	// The wheel's, guarded by Server.mu.
	next, prev *Socket
	due        uint32
	waits      bool

	// Signs of life, for the wheel.
	heard  atomic.Uint32 // reads that brought something
	busy   atomic.Bool   // the handler has a message: nobody reads
	asked  bool          // a ping was sent; the wheel's goroutine's own, as is before
	before uint32        // heard at the last look

	reader reader

	mu         sync.Mutex // guards the rest
	queue      []byte     // waits for the client
	leaving    int        // bytes of the running writer
	writing    bool       // there is one
	parts      [2][]byte
	sentNow    int
	sendErr    error
	sendFn     func(fd uintptr) bool
	fragmented bool  // the message under way goes on
	packing    bool  // compressed
	closing    bool  // a close frame was sent, or need not be
	over       bool  // nothing more is sent
	shut       bool  // close the sending side once the queue has left
	clean      bool  // the client has said its last word: close the whole
	cause      error // why it was cut
	closeBy    time.Time
}

func newSocket(s *Server, l *Limits, h exchange.SocketHandler) *Socket {
	k := &Socket{server: s, limits: l, handler: h}
	k.reader.k = k
	return k
}

// adopt takes the connection and sends the head of the answer.
func (k *Socket) adopt(nc net.Conn, early, head []byte) {
	k.nc = nc
	switch c := nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil { // a closed one fails at its first read, too
			k.raw = raw
		}
	}
	k.sendFn = k.trySend
	k.reader.begin(early)
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.put(head, nil) // an error has cut the connection, which the reader finds
}

// Start see [exchange.Socket].
func (k *Socket) Start() {
	k.wakeAfter(k.limits.PingInterval)
	k.server.begin()
	go k.run()
}

// run is the socket's goroutine.
func (k *Socket) run() {
	defer k.server.done()
	e := k.reader.read()
	k.mu.Lock()
	cause := k.cause
	k.mu.Unlock()
	if cause != nil && e.Code == exchange.CloseAbnormal {
		e.Err = cause
	}
	k.handler.Closed(e)
	k.linger(e.Err == nil)
	k.reader.release()
	k.server.leave(k)
	k.server.closed.Add(1)
}

// wake is the wheel's call.
func (k *Socket) wake() {
	k.mu.Lock()
	closing, late := k.closing, k.closing && !time.Now().Before(k.closeBy)
	k.mu.Unlock()
	heard := k.heard.Load()
	switch {
	case late:
		k.cut(errNoClose)
	case closing:
		k.wakeAfter(tickLength)
	case k.asked && heard == k.before && !k.busy.Load():
		k.server.silent.Add(1)
		k.cut(errSilent)
	case heard != k.before || k.busy.Load():
		k.asked, k.before = false, heard
		k.wakeAfter(k.limits.PingInterval)
	default:
		k.asked = true
		k.control(ws.OpPing, nil)
		k.wakeAfter(k.limits.PingTimeout)
	}
}

var (
	errNoClose = errors.New("the client did not end the connection after the close frame")
	errSilent  = errors.New("the client gave no sign of life within the ping timeout")
)

// Close see [exchange.Socket].
func (k *Socket) Close(code uint16, reason string) { k.close(code, reason) }

func (k *Socket) close(code uint16, reason string) {
	k.mu.Lock()
	if k.closing {
		k.mu.Unlock()
		return
	}
	var body []byte
	if code != 0 && code != exchange.CloseNoStatus {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), cutReason(reason))
	}
	_ = k.frame(ws.OpClose, true, false, body) // an error has cut the connection
	k.closing, k.closeBy = true, time.Now().Add(closeTimeout)
	k.mu.Unlock()
	k.wakeAfter(closeTimeout)
}

// cutReason shortens a reason to what a control frame holds, between two characters.
func cutReason(s string) string {
	const most = ws.MaxControlFramePayloadSize - 2
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// cut ends the connection at once. The reader learns of it by its error.
func (k *Socket) cut(why error) {
	k.mu.Lock()
	k.cutLocked(why)
	k.mu.Unlock()
}

func (k *Socket) cutLocked(why error) {
	if k.over {
		return
	}
	k.over, k.closing = true, true
	if k.cause == nil {
		k.cause = why
	}
	k.queue = nil
	// Its error says that the client was faster.
	_ = k.nc.Close()
}

// linger ends the connection so that the client gets what was sent. Of one that may
// still be sending our side is closed first, and what comes is thrown away for a
// bounded time: a plain close would reset the connection.
func (k *Socket) linger(clean bool) {
	k.mu.Lock()
	k.closing, k.shut, k.clean = true, true, clean
	k.closeBy = time.Now().Add(closeTimeout)
	if !k.over && !k.writing {
		k.shutLocked()
	}
	over := k.over
	k.mu.Unlock()
	if !over {
		k.wakeAfter(closeTimeout)
		k.reader.discard()
	}
	k.mu.Lock()
	k.cutLocked(nil)
	k.mu.Unlock()
}

// shutLocked closes the sending side. Under mu.
func (k *Socket) shutLocked() {
	if half, ok := k.nc.(interface{ CloseWrite() error }); ok && !k.clean && half.CloseWrite() == nil {
		return
	}
	k.cutLocked(nil)
}

// fail ends the connection because of what the client sent.
func (k *Socket) fail(code uint16, format string, args ...any) exchange.SocketEnd {
	err := fmt.Errorf(format, args...)
	k.close(code, err.Error())
	return exchange.SocketEnd{Code: exchange.CloseAbnormal, Err: err}
}
