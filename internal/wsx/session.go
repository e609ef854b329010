package wsx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// session is one socket: the pages that speak on it and their calls.
type session struct {
	step     *Step
	log      *slog.Logger
	wire     exchange.Socket
	template exchange.Request // of the calls: what the handshake said of the client
	warned   atomic.Int64

	mu      sync.Mutex // guards the rest, and lane
	serial  int
	pages   map[string]*lane
	free    lane // calls of no page
	calls   map[*call]struct{}
	running int
	waiting []*call // for one of the places
	queued  int     // calls that wait for a place or in a lane
	bytes   int     // that the calls have brought
	held    [][]byte
	holding int  // bytes of held
	behind  bool // the client has not read what it was sent
	over    bool
}

// lane is the calls of one page.
type lane struct {
	sequential bool
	under      int // way, or waiting for a place
	line       []*call
}

func newSession(s *Step, x *exchange.Exchange) *session {
	k := &session{step: s, pages: map[string]*lane{}, calls: map[*call]struct{}{}}
	k.template = copyRequest(&x.Request)
	k.log = s.opts.Log.With("request_id", x.ID)
	return k
}

var errBinary = errors.New("a binary message")

// Message is [exchange.SocketHandler].
func (k *session) Message(text bool, p []byte) {
	e, err := decode(p)
	if !text {
		err = errBinary
	}
	if err != nil {
		// What this protocol is not is no reason to end it.
		k.log.Debug("a message that is not of WSX was dropped", "error", err)
		return
	}
	e.Path = k.step.inside(e.Path)
	if name, is := k.step.reserved(e.Path); is {
		k.command(e, name)
		return
	}
	c, status, err := k.newCall(e)
	if err != nil {
		k.refuse(e, status, err)
		return
	}
	if status, err := k.enter(c); err != nil {
		k.refuse(e, status, err)
	}
}

// command answers what is the host's own.
func (k *session) command(e *envelope, name string) {
	switch name {
	case "ping":
		k.answer(e, 200, wrapText("pong"))
	case "openchannel":
		if status, err := k.open(e); err != nil {
			k.refuse(e, status, err)
			return
		}
		k.answer(e, 200, wrapText("open"))
	default:
		k.refuse(e, 404, fmt.Errorf("there is no %s", e.Path))
	}
}

var (
	errNoPage  = errors.New("page_id is missing")
	errForeign = errors.New("the page is not this connection's")
	errOther   = errors.New("this socket is another page's")
	errChannel = errors.New("openchannel must come before the calls of a page")
	errFull    = errors.New("too many calls wait on this socket")
	errPages   = errors.New("too many pages speak on this socket")
	errWish    = errors.New("data is no object with parameters, of which sequential is true or false")
)

// mostPages is how many pages may speak on one socket.
const mostPages = 64

// open binds a page to the socket.
func (k *session) open(e *envelope) (int, error) {
	if e.PageID == "" {
		return 400, errNoPage
	}
	data, err := e.payload()
	if err != nil {
		return 400, err
	}
	var wish struct {
		Parameters struct {
			Sequential bool `json:"sequential"`
		} `json:"parameters"`
	}
	if data.json != nil && json.Unmarshal(data.json, &wish) != nil {
		return 400, errWish
	}
	if owner, known := k.step.opts.Owner(e.PageID); !known {
		return k.bind(e.PageID, wish.Parameters.Sequential, true)
	} else if owner == "" || owner != k.connection() {
		return 403, errForeign
	}
	return k.bind(e.PageID, wish.Parameters.Sequential, false)
}

// connection is whose the socket is now: its cookie may have become an old one since the
// handshake.
func (k *session) connection() string {
	x := exchange.New()
	x.Request = k.template
	return k.step.opts.Connection(x)
}

// bind lets a page speak here; alone: it must be the only one.
func (k *session) bind(page string, sequential, alone bool) (int, error) {
	page = k.step.opts.Base(page)
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.pages[page]
	if l == nil {
		// Of a page that the host does not know, the socket's first word is all there is.
		if alone && len(k.pages) > 0 {
			return 403, errOther
		}
		if len(k.pages) >= mostPages {
			return 503, errPages
		}
		l = &lane{}
		k.pages[page] = l
	}
	l.sequential = sequential
	return 0, nil
}

// enter starts a call, or lets it wait for its turn.
func (k *session) enter(c *call) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := &k.free
	if c.e.PageID != "" {
		if l = k.pages[k.step.opts.Base(c.e.PageID)]; l == nil {
			return 409, errChannel
		}
	}
	inLine := l.sequential && l.under > 0
	wait := k.running >= mostRunning || inLine
	switch {
	case k.over:
		return 0, nil
	case wait && k.queued >= mostWaiting, len(k.calls) > 0 && k.bytes+c.size > 2*k.step.opts.Message:
		return 503, errFull
	}
	c.lane = l
	k.calls[c] = struct{}{}
	k.bytes += c.size
	if inLine {
		l.line = append(l.line, c)
		k.queued++
		return 0, nil
	}
	k.place(c)
	return 0, nil
}

// place lets a call go that has its turn. Under mu.
func (k *session) place(c *call) {
	c.lane.under++
	if k.running >= mostRunning {
		k.waiting = append(k.waiting, c)
		k.queued++
		return
	}
	k.running++
	k.step.hub.run(c)
}

// left gives a call's place to the next one.
func (k *session) left(c *call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	c.lane.under--
	if k.over {
		return
	}
	delete(k.calls, c)
	k.bytes -= c.size
	if line := c.lane.line; len(line) > 0 && c.lane.under == 0 {
		c.lane.line = line[1:]
		c.lane.under++
		k.waiting = append(k.waiting, line[0]) // behind those that came before
	}
	if len(k.waiting) > 0 && k.running < mostRunning {
		next := k.waiting[0]
		k.waiting = k.waiting[1:]
		k.queued--
		k.running++
		k.step.hub.run(next)
	}
}

// loud is how many warnings a socket gives; what it then has to say is for who debugs.
const loud = 10

// warn tells the operator, and lets no client fill the log.
func (k *session) warn(text string, attrs ...any) {
	level := slog.LevelWarn
	if k.warned.Add(1) > loud {
		level = slog.LevelDebug
	}
	k.log.Log(context.Background(), level, text, attrs...)
}

// refuse answers what is not done. data is then the reason in plain text.
func (k *session) refuse(e *envelope, status int, err error) {
	if status == 0 {
		return
	}
	k.step.hub.refused.Add(1)
	if e.ID == nil {
		k.warn("an event of a WSX client was dropped", "path", e.Path, "status", status, "error", err)
		return
	}
	k.answer(e, status, wrapText(err.Error()))
}

// answer sends an answer to a message that wants one. A client that does not keep up gets
// them one by one.
func (k *session) answer(e *envelope, status int, data string) {
	if e.ID == nil {
		return
	}
	frame := e.reply(status, data)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	if !k.behind {
		k.send(frame)
		return
	}
	k.held = append(k.held, frame)
	if k.holding += len(frame); k.holding > 2*k.step.opts.Message || len(k.held) > mostRunning+mostWaiting {
		k.wire.Close(exchange.CloseTryLater, "the answers are not read")
	}
}

// send sends a frame. Nothing waits for the client before it: what is over the limit of
// the socket would cut a client that only has a slow line. Under mu.
func (k *session) send(frame []byte) {
	// An error is the socket's end, of which Closed tells.
	waiting, _ := k.wire.Send(true, frame, true)
	k.behind = waiting > 0
}

// Drained is [exchange.SocketHandler]: the client has caught up.
func (k *session) Drained() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.behind = false
	for len(k.held) > 0 && !k.behind && !k.over {
		frame := k.held[0]
		k.held = k.held[1:]
		k.holding -= len(frame)
		k.send(frame)
	}
}

// Closed is [exchange.SocketHandler]: nobody waits for the calls any more.
func (k *session) Closed(exchange.SocketEnd) {
	k.step.hub.sockets.Add(-1)
	k.mu.Lock()
	k.over = true
	calls := k.calls
	k.calls, k.waiting, k.held, k.queued = map[*call]struct{}{}, nil, nil, 0
	k.pages = map[string]*lane{}
	k.mu.Unlock()
	for c := range calls {
		c.x.SetGone(exchange.Closed)
	}
}
