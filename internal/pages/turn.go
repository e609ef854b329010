package pages

import (
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
	do    exchange.TurnKind
	data  []byte
	topic string
	why   string
}

// rests says that only the object of the page is to be forgotten.
func (t *turn) rests() bool { return t.do == exchange.TurnClose && t.why == "" }

// handlerOf names the method that a turn runs.
var handlerOf = [...]string{
	exchange.TurnOpen: "on_open", exchange.TurnMessage: "on_message", exchange.TurnRequest: "on_message",
	exchange.TurnSnapshot: "on_snapshot", exchange.TurnClose: "on_close", exchange.TurnEvent: "on_event", exchange.TurnHTTP: "on_request",
	exchange.TurnWrite: "on_write",
}

// outcome is what came of a turn or a request.
type outcome struct {
	data []byte // JSON; nil: null
	err  *push.ReplyError
	lost bool // it had started, and its worker is gone
	wait bool // it has not started: no worker could take it now

	refused bool // the application wants no such page: its object could not be made
	said    bool // the error is the application's own answer: a PageError

	id string // by which the log tells of it; empty: by that of the request
}

// mostPatience is how long a turn that nobody waits for is tried, while no worker takes it.
const mostPatience = time.Minute

// turn runs a handler, in its turn.
func (pg *page) turn(j *job) {
	if j.do.do == exchange.TurnSnapshot && !pg.owes() {
		return
	}
	out, done := pg.attempt(j)
	if j.undone = !done; done && j.do.do != exchange.TurnOpen {
		pg.settle(j, out)
	}
	switch {
	case !done:
	case j.do.rests():
		pg.setResident(false)
	case j.do.do == exchange.TurnClose:
		pg.setResident(false)
		pg.over()
	case out.err == nil && pg.class != "":
		pg.setResident(true)
	case out.refused && j.do.do != exchange.TurnOpen && pg.hasOpened():
		pg.refuse(out) // another object should have taken the place of the one that is gone
	}
}

// attempt runs it, on_open before it where that has not succeeded yet; false: it was not
// begun, and the host stops.
func (pg *page) attempt(j *job) (out outcome, done bool) {
	if pg.class != "" && !pg.hasOpened() && j.do.do != exchange.TurnOpen && !j.do.rests() {
		if j.do.do == exchange.TurnClose {
			return outcome{}, true // nothing was opened
		}
		if out = pg.opens(j.reply); !pg.openedBy(out) {
			return out, !out.wait || !pg.pages.stopping()
		}
	}
	out = pg.tries(j, pg.once(j))
	if j.do.do == exchange.TurnOpen {
		pg.openedBy(out)
	} else {
		pg.did(j.do.do, out)
	}
	return out, !out.wait || !pg.pages.stopping()
}

// did counts what came of a turn of an object.
func (pg *page) did(do exchange.TurnKind, out outcome) {
	if out.err != nil {
		pg.pages.count.fail(out)
	}
	if out.err == nil || out.said {
		switch do { //nolint:exhaustive // the others are neither
		case exchange.TurnHTTP:
			pg.reached(true)
		case exchange.TurnMessage, exchange.TurnRequest:
			pg.reached(false)
		}
	}
}

// reached notes that a request, or a message, has reached the page's object.
func (pg *page) reached(byHTTP bool) {
	if pg.class == "" {
		return
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	before := pg.byHTTP && pg.byMessage
	pg.byHTTP, pg.byMessage = pg.byHTTP || byHTTP, pg.byMessage || !byHTTP
	if pg.byHTTP && pg.byMessage && !before {
		pg.pages.count.met.Add(1)
	}
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
		pg.touched()
		return true
	}
	pg.pages.count.fail(out)
	if out.refused {
		pg.refuse(out)
		return false
	}
	pg.pages.opts.Log.Warn("page not opened; its next message tries again", "page", pg.id, "class", pg.class, "error", out.err)
	return false
}

// refuse ends the page: the application has said so, and its client need not ask again.
func (pg *page) refuse(out outcome) {
	pg.pages.opts.Log.Info("page refused by its class", "page", pg.id, "class", pg.class, "code", out.err.Code, "message", out.err.Message)
	pg.session.Refuse(&push.ReplyError{Code: cut(out.err.Code), Message: cut(out.err.Message)})
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
	case exchange.TurnRequest, exchange.TurnWrite:
		pg.reply(j, out, "")
	case exchange.TurnSnapshot:
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
	if out.refused {
		return // it ends for that
	}
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
		pg.touched()
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
			err = &push.ReplyError{Code: "too_big", Message: fmt.Sprintf("the reply has %d bytes of JSON, where a message may have %d", len(data), pg.pages.hub.Options().Message)}
		case errors.Is(e, push.ErrNotJSON):
			err = &push.ReplyError{Code: push.ReplyFailed, Message: "the reply is no JSON"}
		}
	}
	if err != nil {
		_ = pg.session.Fail(j.ref, err) // answered, cancelled or ended meanwhile
	}
}

func (pg *page) opens(reply bool) outcome {
	j := &job{do: &turn{do: exchange.TurnOpen}, reply: reply}
	return pg.tries(j, pg.once(j))
}

// tries runs a turn again, whose first outcome is here, when no worker took it, or when it is
// one that may run twice and its worker died.
func (pg *page) tries(j *job, out outcome) outcome {
	began := time.Now()
	for try := 0; ; try++ {
		twice := j.do.do == exchange.TurnOpen || j.do.do == exchange.TurnSnapshot
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
		out = pg.once(j)
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

// once sends a turn to the worker, and waits for what comes of it.
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
	x, c := pg.asked(j, owner)
	if !pg.begin(j, x) {
		return outcome{err: errCancelled}
	}
	p.count.turns.Add(1)
	p.opts.Turns().Serve(x)
	return pg.came(j, x, c)
}

// asked makes the exchange of a turn.
func (pg *page) asked(j *job, owner push.Owner) (*exchange.Exchange, *call) {
	p := pg.pages
	x := p.exchange("turn")
	c := &call{Collected: exchange.Collected{Limit: int64(p.hub.Options().Message + mostArgs)}, app: pg.runs()}
	c.turn = exchange.Turn{
		Do: j.do.do, Page: pg.id, Class: pg.class, Args: pg.args, Opened: pg.hasOpened(),
		User: owner.User, Connection: owner.Connection, Data: j.do.data, Topic: j.do.topic, Why: j.do.why,
	}
	c.who = exchange.Who{Connection: owner.Connection, User: owner.User, Page: pg.id}
	x.Turn, x.Who = &c.turn, &c.who
	pg.settles(j, x, ofTurn)
	x.Answer, x.App = c, c.app
	return x, c
}

// came reads what came of a turn.
func (pg *page) came(j *job, x *exchange.Exchange, c *call) outcome {
	pg.ends(j)
	pg.pages.opts.Settle(x.Worker) // what the handler pushed comes before what it returned
	out := ofTurn(&c.Collected)
	if out.err != nil {
		out.id = x.ID
	}
	if c.Status == 200 && c.Err == nil && x.Gone() == exchange.Present {
		// It went all its way: nobody on the road has it any more.
		x.Reset()
		exchanges.Put(x)
	}
	return out
}

// launch sends a turn of an open page to a worker that can take it at once: then no goroutine
// waits for the answer. False: nothing was done, and a goroutine does all of it.
func (pg *page) launch(j *job) bool {
	p := pg.pages
	select {
	case p.turns <- struct{}{}:
	default:
		return false
	}
	owner := pg.session.Owner()
	if owner.User != j.user {
		<-p.turns
		return false
	}
	x, c := pg.asked(j, owner)
	x.Sleep(j)
	if pg.begin(j, x) {
		if f := p.opts.Launch(pg.app, x); f != nil {
			p.count.turns.Add(1)
			j.flight, j.x, j.call = f, x, c
			if j.halves.Add(1) == 2 {
				p.work.resume(j)
			}
			return true
		}
	}
	pg.ends(j)
	if x.Rouse() { // else who rings may still have it
		x.Reset()
		exchanges.Put(x)
	}
	j.halves.Store(0)
	<-p.turns
	return false
}

// Wake is [exchange.Waker]: there is news of a turn that nobody waits for.
func (j *job) Wake() {
	if j.halves.Add(1) == 2 {
		j.page.pages.work.resume(j)
	}
}

// land does what follows from the news.
func (pg *page) land(j *job) {
	p := pg.pages
	j.flight.Land()
	p.opts.Landed()
	out := pg.came(j, j.x, j.call)
	j.flight, j.x, j.call = nil, nil, nil
	<-p.turns
	out = pg.tries(j, out)
	pg.did(j.do.do, out)
	done := !out.wait || !p.stopping()
	if j.undone = !done; !done {
		return
	}
	pg.settle(j, out)
	if out.refused {
		pg.refuse(out)
	}
}

// errIdentity is why a message is not handled as another user's than who sent it.
var errIdentity = &push.ReplyError{Code: push.ReplyIdentity, Message: "the user has logged in or out meanwhile; nothing was done"}

var errCancelled = &push.ReplyError{Code: push.ReplyFailed, Message: "cancelled"}

func stopped() outcome {
	return outcome{wait: true, err: &push.ReplyError{Code: push.ReplyBusy, Message: "the server is stopping"}}
}

// exchanges are those that can be used again.
var exchanges = sync.Pool{New: func() any { return exchange.New() }}

// exchange makes one that comes from no client's connection.
func (p *Pages) exchange(kind string) *exchange.Exchange {
	x := exchanges.Get().(*exchange.Exchange)
	x.Request = exchange.Request{
		ID: p.id(kind), Method: "POST", Version: exchange.HTTP11, Scheme: "http",
		Target: slash, RawPath: slash, Path: slash, Fields: x.Fields[:0],
		Body: noBody, Peer: loopback, LocalName: "guado", Unix: true, Received: time.Now(),
	}
	return x
}

// id names an exchange for the log: no secret, and unlike those of other starts.
func (p *Pages) id(kind string) string {
	var room [64]byte
	b := append(append(append(append(room[:0], kind...), '-'), p.name...), '-')
	return string(strconv.AppendUint(b, p.serial.Add(1), 36))
}

var (
	slash    = []byte{'/'} // a turn leaves the road before any step could change it
	noBody   = exchange.BodyOf(nil)
	loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
)

// call is a turn on its way: the answer of its exchange, by which it is known.
type call struct {
	exchange.Collected
	app  string
	turn exchange.Turn
	who  exchange.Who
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
