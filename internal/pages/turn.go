package pages

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// turn is a call of a handler of a page's class.
type turn struct {
	do    string
	data  []byte
	topic string
	why   string
}

// What a turn does, as protocol/link.md names it.
const (
	doOpen     = "open"
	doMessage  = "message"
	doRequest  = "request"
	doSnapshot = "snapshot"
	doClose    = "close"
	doEvent    = "event"
	doOn       = "on"
)

// handlerOf names the method that a turn runs.
var handlerOf = map[string]string{
	doOpen: "on_open", doMessage: "on_message", doRequest: "on_message", doSnapshot: "on_snapshot",
	doClose: "on_close", doEvent: "on_event",
}

// body is what the worker gets of a turn.
type body struct {
	Do         string          `json:"do"`
	Page       string          `json:"page,omitempty"`
	Class      string          `json:"class,omitempty"`
	Args       json.RawMessage `json:"args,omitempty"`
	Opened     bool            `json:"opened"`
	User       string          `json:"user,omitempty"`
	Connection string          `json:"connection,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	Topic      string          `json:"topic,omitempty"`
	Why        string          `json:"why,omitempty"`
}

// outcome is what came of a turn or a request.
type outcome struct {
	data []byte // JSON; nil: null
	err  *push.ReplyError
	lost bool // it had started, and its worker is gone
	wait bool // it has not started: no worker could take it now
}

// mostPatience is how long a turn that nobody waits for is tried, while no worker takes it.
const mostPatience = time.Minute

// turn runs a handler, in its turn.
func (pg *page) turn(j *job) {
	if j.do.do == doSnapshot && !pg.owes() {
		return
	}
	out, done := pg.attempt(j)
	if j.undone = !done; done && j.do.do != doOpen {
		pg.settle(j, out)
	}
	if done && j.do.do == doClose {
		pg.over()
	}
}

// attempt runs it, on_open before it where that has not succeeded yet; false: it was not
// begun, and the host stops.
func (pg *page) attempt(j *job) (out outcome, done bool) {
	if !pg.hasOpened() && j.do.do != doOpen {
		if j.do.do == doClose {
			return outcome{}, true // nothing was opened
		}
		if out = pg.tries(&job{do: &turn{do: doOpen}, reply: j.reply}); !pg.openedBy(out) {
			return out, !out.wait || !pg.pages.stopping()
		}
	}
	out = pg.tries(j)
	if j.do.do == doOpen {
		pg.openedBy(out)
	} else if out.err != nil {
		pg.pages.count.failed.Add(1)
	}
	return out, !out.wait || !pg.pages.stopping()
}

func (pg *page) hasOpened() bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.opened
}

func (pg *page) owes() bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.owed
}

// openedBy takes note of what came of on_open.
func (pg *page) openedBy(out outcome) bool {
	if out.err == nil {
		pg.mu.Lock()
		pg.opened = true
		pg.mu.Unlock()
		return true
	}
	pg.pages.count.failed.Add(1)
	if !out.lost && !out.wait && out.err.Code != push.ReplyFailed {
		// The application has said so: its client need not ask again.
		pg.pages.opts.Log.Info("page refused by its class", "page", pg.id, "class", pg.class, "code", out.err.Code, "message", out.err.Message)
		pg.session.Refuse(&push.ReplyError{Code: cut(out.err.Code), Message: cut(out.err.Message)})
		return false
	}
	pg.pages.opts.Log.Warn("page not opened; its next message tries again", "page", pg.id, "class", pg.class, "error", out.err)
	return false
}

// cut holds what a client is told to a length.
func cut(text string) string { return strings.ToValidUTF8(text[:min(len(text), mostText)], "") }

// settle does what follows from a turn.
func (pg *page) settle(j *job, out outcome) {
	if j.done != nil {
		j.done(out)
		return
	}
	switch j.do.do {
	case doRequest:
		pg.reply(j, out, "")
	case doSnapshot:
		pg.snapshot(out)
	default:
		if out.err != nil {
			pg.pages.opts.Log.Warn("turn of a page failed", "page", pg.id, "class", pg.class, "handler", handlerOf[j.do.do], "error", out.err)
		}
	}
}

// snapshot sends what on_snapshot gave. A page of which there is no snapshot would be half
// a page: it ends, and its client begins anew with another one.
func (pg *page) snapshot(out outcome) {
	data := out.data
	if data == nil {
		data = []byte("null")
	}
	var err error
	if out.err != nil {
		err = out.err
	} else {
		pg.mu.Lock()
		pg.owed = false
		pg.mu.Unlock()
		err = pg.pushSnapshot(data)
	}
	if err != nil {
		pg.pages.opts.Log.Error("no snapshot of a page: it ends, and its client begins anew", "page", pg.id, "class", pg.class, "error", err)
		pg.session.End(push.CodeEnded)
	}
}

// reply answers a client's request.
func (pg *page) reply(j *job, out outcome, token string) {
	if !j.reply {
		return
	}
	err := out.err
	if err == nil {
		data := out.data
		if data == nil {
			data = []byte("null")
		}
		switch e := pg.session.ReplyWithCookies(j.ref, data, token); {
		case errors.Is(e, push.ErrTooBig):
			err = &push.ReplyError{Code: "too_big", Message: "the reply is longer than allowed"}
		case errors.Is(e, push.ErrNotJSON):
			err = &push.ReplyError{Code: push.ReplyFailed, Message: "the reply is no JSON"}
		}
	}
	if err != nil {
		_ = pg.session.Fail(j.ref, err) // answered, cancelled or ended meanwhile
	}
}

// tries runs one turn: again when no worker took it, or when it is one that may run twice
// and its worker died.
func (pg *page) tries(j *job) outcome {
	began := time.Now()
	for try := 0; ; try++ {
		out := pg.once(j)
		twice := j.do.do == doOpen || j.do.do == doSnapshot
		switch {
		case out.wait && !j.reply && time.Since(began) < mostPatience:
		case out.lost && twice && try < 3:
		default:
			if out.lost {
				pg.pages.count.lost.Add(1)
			}
			return out
		}
		pg.pages.count.again.Add(1)
		if !pg.pages.pause(retryDelay(try)) {
			return out
		}
	}
}

// pause waits; false: nobody waits any more, the host stops.
func (p *Pages) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.over:
		return false
	}
}

// once sends a turn to the worker.
func (pg *page) once(j *job) outcome {
	p := pg.pages
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-p.over:
		return stopped()
	}
	owner := pg.session.Owner()
	if j.ref.ID != 0 && owner.User != j.user {
		return outcome{err: errIdentity}
	}
	text := body{
		Do: j.do.do, Page: pg.id, Class: pg.class, Args: pg.args, Opened: pg.hasOpened(),
		User: owner.User, Connection: owner.Connection, Data: j.do.data, Topic: j.do.topic, Why: j.do.why,
	}.appendTo(nil)
	x := p.exchange("turn", text)
	c := &call{exchange.Collected{Limit: int64(p.hub.Options().Message + mostArgs)}, pg.app}
	x.Answer, x.App = c, pg.app
	x.Who = &exchange.Who{Connection: owner.Connection, User: owner.User, Page: pg.id}
	if !pg.begin(j, x) {
		return outcome{err: errCancelled}
	}
	p.count.turns.Add(1)
	p.opts.Turns().Serve(x)
	pg.ends(j)
	p.opts.Settle(x.Worker) // what the handler pushed comes before what it returned
	out := ofTurn(&c.Collected)
	if c.Status == 200 && c.Err == nil && x.Gone() == exchange.Present {
		// It went all its way: nobody on the road has it any more.
		x.Reset()
		exchanges.Put(x)
	}
	return out
}

// exchanges are those that can be used again.
var exchanges = sync.Pool{New: func() any { return exchange.New() }}

// errIdentity is why a message is not handled as another user's than who sent it.
var errIdentity = &push.ReplyError{Code: push.ReplyIdentity, Message: "the user has logged in or out meanwhile; nothing was done"}

var errCancelled = &push.ReplyError{Code: push.ReplyFailed, Message: "cancelled"}

func stopped() outcome {
	return outcome{wait: true, err: &push.ReplyError{Code: push.ReplyBusy, Message: "the server is stopping"}}
}

// exchange makes one that comes from no client's connection.
func (p *Pages) exchange(kind string, data []byte) *exchange.Exchange {
	x := exchanges.Get().(*exchange.Exchange)
	// One array for what steps may change in place.
	text := append(make([]byte, 0, 32), "guado///"...)
	text = strconv.AppendInt(text, int64(len(data)), 10)
	x.Request = exchange.Request{
		ID: kind + "-" + rand.Text(), Method: "POST", Version: exchange.HTTP11, Scheme: "http",
		Host: text[:5:5], Target: text[5:6:6], RawPath: text[6:7:7], Path: text[7:8:8],
		Fields: append(x.Fields[:0],
			exchange.Field{Name: []byte("Content-Type"), Value: []byte("application/json")},
			exchange.Field{Name: []byte("Content-Length"), Value: text[8:len(text):len(text)]},
		),
		Length: int64(len(data)), Body: exchange.BodyOf(data), Peer: loopback, LocalName: "guado", Unix: true,
		Received: time.Now(),
	}
	return x
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// call is a turn on its way: the answer of its exchange, by which it is known.
type call struct {
	exchange.Collected
	app string
}

// Step sends turns to what runs them, and lets all other exchanges pass.
func (p *Pages) Step(next exchange.Handler) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		c, is := x.Answer.(*call)
		if !is {
			next.Serve(x)
			return
		}
		if h := p.opts.App(c.app); h != nil {
			h.Serve(x)
			return
		}
		x.Fail(&exchange.Problem{Status: 404, Code: "no_class", Err: fmt.Errorf("the application %q has no page classes", c.app)})
	})
}
