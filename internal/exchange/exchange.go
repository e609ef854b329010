// Package exchange is the type that every step of the road shares: one request
// and its answer. A lane of the edge makes it and reads the request into it; the
// steps behind read it and write the answer through [Answer].
// Not here: parsing, framing, routing. This package imports no other of ours.
package exchange

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Version of HTTP as major*10+minor, the form the link carries.
type Version uint8

// The versions the edge speaks.
const (
	HTTP10 Version = 10
	HTTP11 Version = 11
	HTTP2  Version = 20
)

// String is the form of CGI's SERVER_PROTOCOL: "HTTP/1.1", "HTTP/2.0".
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2.0"
	default:
		return "HTTP/1.1"
	}
}

// Field is one header or trailer field: the bytes of its line, in the order of
// arrival. Compare names with [Field.Is]; HTTP/1.1 keeps the client's case.
//
// The slices belong to the lane and are valid until Handler.Serve returns.
type Field struct{ Name, Value []byte }

// Is reports whether the field has this name, ASCII case ignored.
func (f Field) Is(name string) bool { return EqualFold(f.Name, name) }

// EqualFold compares ASCII bytes without case and without Unicode folding
// ("K" is not the Kelvin sign here).
func EqualFold(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

// TLS describes the encrypted connection of a request; nil in [Request] means plain.
type TLS struct {
	Version     uint16 // as in RFC 8446: 0x0304 is TLS 1.3
	CipherSuite uint16 // IANA number
}

// Request is what the client sent, after the edge has checked and cleaned it: no
// hop-by-hop, underscore, dot, Proxy or Guado-* fields are left in Fields, and none
// of those that have a place of their own here (Host, Expect, X-Request-ID,
// Traceparent). Content-Length stays.
type Request struct {
	ID          string // request id, also sent to the application as X-Request-ID
	Method      string
	Version     Version
	Scheme      string // "http" or "https", after trusted X-Forwarded-Proto
	Host        []byte // Host field or :authority as sent; empty when HTTP/1.0 sent none
	Target      []byte // request target as received
	RawPath     []byte // target without query, as received
	Path        []byte // RawPath percent-decoded once; routing and application see the same bytes
	Query       []byte // undecoded, without '?'
	Fields      []Field
	Length      int64  // of the body; 0 none, -1 unknown (chunked or HTTP/2 without content-length)
	Body        Body   // never nil
	Expect      bool   // the client waits for 100 Continue; the first Body.Read sends it
	TrailersOK  bool   // the client sent TE: trailers
	Upgrade     string // protocol the client asks for in Upgrade (lower case, "websocket"); those fields are not in Fields
	TLS         *TLS
	Peer        netip.Addr     // who connected; invalid on a Unix socket
	Client      netip.AddrPort // Peer, or the client a trusted proxy named; invalid on a Unix socket
	LocalName   string         // listener address, or the socket's path
	LocalPort   uint16         // 0 on a Unix socket
	Unix        bool           // the listener is a Unix socket
	TraceParent []byte         // W3C trace context sent on to the application
	Received    time.Time

	// GuadoPage is the client's field Guado-Page, which is not in Fields: the page that
	// it says the request is of.
	GuadoPage []byte
	// GuadoAck is its field Guado-Ack, likewise: the number of the last change that it has of
	// what is shared with its page.
	GuadoAck []byte
	// Proxied: a trusted proxy sent it.
	Proxied bool
}

// Field gives the value of the first field with this name; nil when there is none.
func (r *Request) Field(name string) []byte {
	for i := range r.Fields {
		if r.Fields[i].Is(name) {
			return r.Fields[i].Value
		}
	}
	return nil
}

// Head is the head of an answer. Fields holds neither Content-Length nor
// Transfer-Encoding nor Connection: Length says it, and the lane frames it.
type Head struct {
	Status int
	Reason string // empty: the standard phrase
	Fields []Field
	Length int64 // of the body; -1 unknown
}

// Body is the request's body.
//
// Read returns io.EOF after the last byte, [ErrMalformedBody], [ErrBodyTooLarge],
// [ErrSlowClient] or [ErrClientGone] otherwise, and the same error ever after: a
// body that was cut is never mistaken for a complete one. The first Read answers
// an Expect: 100-continue. Trailers are complete after io.EOF.
//
// One goroutine reads; it may be another than the one that uses Answer, so that a
// body streams in while the answer streams out. With Expect, that one first calls
// Answer.Informational(100, nil), which takes the place of the first Read's 100:
// no two goroutines write to the client.
//
// Interrupt, from any goroutine, makes a Read under way and all later ones return
// [ErrInterrupted]. It comes before Serve returns while a body is being read
// elsewhere; what the client still sends is the lane's to drain or to refuse.
type Body interface {
	Read(p []byte) (int, error)
	Trailers() []Field
	Interrupt()
}

// Answer is where a step writes the answer; a lane implements it. Calls come from
// one goroutine. Errors are [ErrClientGone] (or wrap it) once the client has left.
//
// Head, then Write/File in any order, then Trailers or nothing; the lane ends the
// answer when Handler.Serve returns. Write may buffer until Flush. A body on HEAD,
// 204 and 304 is dropped; more bytes than Head.Length are cut and logged, fewer
// abort the connection.
type Answer interface {
	Informational(status int, fields []Field) error
	Head(h Head) error
	Write(p []byte) (int, error)
	File(f File, offset, count int64) error
	Trailers(fields []Field) error
	Flush() error
	// Abort ends the connection (HTTP/2: the stream) without a clean end, so that
	// the client cannot take a cut answer for a complete one.
	Abort(err error)
	// Problem writes the host's own answer p as an error page with its stable code
	// and the request id, in a form the client accepts. Use [Exchange.Fail].
	Problem(x *Exchange, p *Problem)
	// Begun reports whether a final head was written.
	Begun() bool
}

// Hijacker is implemented by the Answer of a connection that may leave HTTP
// (HTTP/1.1). After Hijack the caller owns the connection and closes it; buffered
// holds bytes that the client sent behind the request.
type Hijacker interface {
	Hijack() (conn net.Conn, buffered []byte, err error)
}

// Deadliner is implemented by the Answer of a lane that can hold the client to
// absolute deadlines besides its idle timeouts: what http.ResponseController offers
// to Go handlers. The zero time takes a deadline away; all end with the exchange.
type Deadliner interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Idler is implemented by the Answer of a lane whose idle times a step may change for one
// exchange: how long the client may make no progress with its body, and with the answer.
// 0 leaves a time as it is.
type Idler interface {
	SetIdle(read, write time.Duration)
}

// File is a regular file that can be sent by sendfile(2) at an explicit offset;
// *os.File is one.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	Fd() uintptr
}

// Handler serves an exchange: every step of the road is one. Serve returns when
// the answer is complete or was aborted.
type Handler interface {
	Serve(x *Exchange)
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(x *Exchange)

// Serve calls f.
func (f HandlerFunc) Serve(x *Exchange) { f(x) }

// Exchange is one request and its answer. A lane may use one Exchange for many
// requests of a connection, one after the other; nothing of it may be kept after
// Serve returned.
type Exchange struct {
	Request
	Answer Answer

	// Set by route.
	Root []byte // SCRIPT_NAME / root_path: decoded prefix that was taken off; empty or "/x", never ends in "/"
	App  string // name of the app or mount, for logs

	Meter Meter // of that mount; nil: nobody counts

	// Set by what stands in front of a mount.
	User    string        // whose password was right, for logs
	Who     *Who          // the client, as far as it is known; nil: nobody looks
	Timeout time.Duration // to the head of the answer, in place of the app's; 0: it does not, negative: none

	// Collected is told of a body, of Length bytes, that is here as a whole before an
	// application is called. What it gives refuses the exchange. nil: nobody wants to know.
	Collected func(x *Exchange, body io.ReaderAt) *Problem

	// Set by who makes an exchange of a message that came over the session of a page.
	Carried     string // the connection that the session belongs to
	CarriedUser string // and the user, when the message came
	Message     bool

	Turn *Turn // of a page; nil: it is a request

	Once  Once // is told what becomes real; nil: nobody
	Stays bool // it comes to its end though its client leaves; of the goroutine that serves it

	Upgrader Upgrader // of a request whose Upgrade is "websocket"; nil: it cannot become one

	// Set on the road, read by the access log, the figures and the trace.
	Worker  string        // slot that answered: "p01"
	Waited  time.Duration // in the admission queue
	Worked  time.Duration // in the application, as far as it is known; 0: no worker had it
	Problem *Problem      // why the host answered itself, if it did
	Trace   Trace

	// Scratch is memory of the edge for what it derives from the request (decoded
	// path, trace context); it outlives Reset so that a request allocates none.
	Scratch []byte

	kept [mostKept]kept // outlives Reset, too

	bell  chan struct{}
	later Waker // who is told instead, while asleep
	sleep atomic.Bool
	gone  atomic.Uint32
}

// Waker is told, once, of the first ring of an exchange that no goroutine waits for. It must
// not block.
type Waker interface{ Wake() }

// New makes an exchange that can be used again after [Exchange.Reset].
func New() *Exchange { return &Exchange{bell: make(chan struct{}, 1)} }

// Reset makes x ready for the next request, keeping its slices' memory.
func (x *Exchange) Reset() {
	fields := x.Fields[:0]
	x.Request = Request{Fields: fields}
	x.Answer, x.Root, x.App, x.Meter = nil, nil, "", nil
	x.Worker, x.Waited, x.Worked, x.Problem, x.Trace = "", 0, 0, nil, Trace{}
	x.User, x.Timeout, x.Upgrader, x.Turn = "", 0, nil, nil
	x.Who, x.Collected, x.Carried, x.CarriedUser, x.Message = nil, nil, "", "", false
	x.Once, x.Stays = nil, false
	x.later = nil
	x.sleep.Store(false)
	x.gone.Store(uint32(Present))
	select {
	case <-x.bell:
	default:
	}
}

// PathInfo is Path without Root: what WSGI calls PATH_INFO when Root was taken off.
func (x *Exchange) PathInfo() []byte { return x.Path[min(len(x.Root), len(x.Path)):] }

// RawPathInfo is the end of RawPath that stands for PathInfo: the client's own escapes,
// also where it wrote the root with some.
func (x *Exchange) RawPathInfo() []byte {
	raw := x.RawPath
	// Each escape is three bytes for one; the edge has refused malformed ones.
	for skip := len(raw) - 2*bytes.Count(raw, []byte{'%'}) - len(x.PathInfo()); skip > 0 && len(raw) > 0; skip-- {
		n := 1
		if raw[0] == '%' {
			n = min(3, len(raw))
		}
		raw = raw[n:]
	}
	return raw
}

// Gone says whether the client is still there.
type Gone uint32

// HalfClosed: the client sent FIN after its request and may still read; the
// application is told of a disconnect and its answer is still sent.
const (
	Present Gone = iota
	HalfClosed
	Closed
)

// Gone tells what the lane knows of the client now.
func (x *Exchange) Gone() Gone { return Gone(x.gone.Load()) }

// SetGone is called by the lane, from any goroutine; it rings.
func (x *Exchange) SetGone(g Gone) {
	x.gone.Store(uint32(g))
	x.Ring()
}

// Ring wakes the goroutine in [Exchange.Wait]. It never blocks, may come from any
// goroutine, and may be spurious: who waits looks again at everything it waits for.
func (x *Exchange) Ring() {
	if x.sleep.Load() && x.sleep.CompareAndSwap(true, false) {
		x.later.Wake()
		return
	}
	select {
	case x.bell <- struct{}{}:
	default:
	}
}

// Sleep has the next Ring wake w, before anybody can ring: no goroutine need wait for an
// exchange of which nothing is expected but its answer. Rings behind that one are for [Exchange.Wait]
// again; whoever goes on with the exchange looks at everything first. [Exchange.Rouse] takes
// it back.
func (x *Exchange) Sleep(w Waker) {
	x.later = w
	x.sleep.Store(true)
}

// Rouse takes Sleep back; false: the waker was told, or is being told.
func (x *Exchange) Rouse() bool { return x.sleep.CompareAndSwap(true, false) }

// Wait blocks until the next Ring (or returns at once after an earlier one).
// Whoever has news for the serving goroutine (link, lane, deadline) rings this one
// bell, so that the hot path is a plain receive and not a select over timers.
func (x *Exchange) Wait() { <-x.bell }

// Bell is the channel behind Wait, for the few places that must also wait for
// something else.
func (x *Exchange) Bell() <-chan struct{} { return x.bell }
