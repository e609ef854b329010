package pages

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/push"
)

// page is one page. It is the value of its session.
type page struct {
	pages   *Pages
	session *push.Session
	id      string
	app     string
	class   string
	args    json.RawMessage
	path    string
	made    time.Time

	mu       sync.Mutex // guards the rest
	from     From       // as its client came last
	opened   bool       // its class's on_open has succeeded once
	owed     bool       // its client waits for a snapshot
	mailbox  *line      // turns, one at a time
	beside   *line      // turns of concurrent handlers, and requests
	messages *line      // messages to paths that want no reply, one at a time
	bytes    int        // of messages that wait or run
	cookies  map[string][]string
	ended    bool
	resident bool // the worker has its object

	byHTTP, byMessage bool // requests, and messages, have reached this object

	meta item.Meta

	forgotten bool // its arguments are no longer counted

	last chan struct{} // closed when it is over; nil: nobody waits for that
}

func pageOf(s *push.Session) *page {
	pg, _ := s.Value().(*page)
	return pg
}

// ---- push.Handler ------------------------------------------------------------------

// Opened see [push.Handler].
func (p *Pages) Opened(s *push.Session, o push.Opening) {
	pg := pageOf(s)
	if pg == nil {
		return
	}
	if pg.class == "" {
		// It has no state that a snapshot could be made of, and its client is told so.
		if !o.Resumed {
			_ = pg.pushSnapshot([]byte("null")) // which is JSON, and short
			if p.opts.Anew != nil {
				p.opts.Anew(pg.id)
			}
		}
		return
	}
	if !o.Resumed && p.opts.Anew != nil {
		p.opts.Anew(pg.id)
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.owed = pg.owed || !o.Resumed
	pg.touched()
	if !pg.opened && !pg.mailbox.has(exchange.TurnOpen) {
		pg.addLocked(&pg.mailbox, 1, &job{do: &turn{do: exchange.TurnOpen}})
	}
	if pg.owed && !pg.mailbox.has(exchange.TurnSnapshot) {
		pg.addLocked(&pg.mailbox, 1, &job{do: &turn{do: exchange.TurnSnapshot}})
	}
}

// forget no longer counts the page's arguments: it has ended.
func (pg *page) forget() {
	pg.mu.Lock()
	first := !pg.forgotten
	pg.forgotten = true
	pg.mu.Unlock()
	if first {
		pg.pages.args.Add(-int64(len(pg.args)))
	}
}

// pushSnapshot sends one, unless the page has ended.
func (pg *page) pushSnapshot(data []byte) error {
	payload, err := pg.pages.hub.NewSnapshot(data)
	if err == nil {
		_, err = pg.session.Push(payload)
	}
	if errors.Is(err, push.ErrEnded) || errors.Is(err, push.ErrStopping) {
		return nil
	}
	return err
}

var errBusy = &push.ReplyError{Code: push.ReplyBusy, Message: "too many messages wait for this page"}

// Message see [push.Handler].
func (p *Pages) Message(s *push.Session, m push.Message) error {
	pg := pageOf(s)
	if pg == nil {
		return &push.ReplyError{Code: push.ReplyFailed, Message: "the page is not there yet"}
	}
	j := &job{ref: m.Ref, data: m.Data, reply: m.Request, to: m.To, user: s.Owner().User}
	at, width := &pg.mailbox, 1
	switch {
	case m.Write:
		j.do = &turn{do: exchange.TurnWrite, data: writing(m.Data, m.ID)}
	case m.To == "" && pg.class != "":
		j.do = &turn{do: exchange.TurnMessage, data: m.Data}
		if m.Request {
			j.do.do = exchange.TurnRequest
		}
		if pg.concurrent(handlerOf[j.do.do]) {
			at, width = &pg.beside, mostAtOnce
		}
	case m.Request:
		at, width = &pg.beside, mostAtOnce
	default:
		at = &pg.messages
	}
	pg.mu.Lock()
	begins, ok := pg.placeLocked(at, width, j)
	direct := j.do != nil && pg.opened
	pg.mu.Unlock()
	if !ok {
		p.count.busy.Add(1)
		return errBusy
	}
	if begins && (!direct || !pg.launch(j)) {
		p.work.resume(j)
	}
	return nil
}

// concurrent reports whether a handler of the page needs no turn. The first one does: it
// makes the object.
func (pg *page) concurrent(handler string) bool {
	pg.mu.Lock()
	opened := pg.opened
	pg.mu.Unlock()
	c, _ := pg.pages.class(pg.class)
	return opened && slices.Contains(c.Concurrent, handler)
}

// Cancelled see [push.Handler].
func (p *Pages) Cancelled(s *push.Session, r push.Ref) {
	pg := pageOf(s)
	if pg == nil {
		return
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	for _, l := range []*line{pg.mailbox, pg.beside} {
		if j := l.find(r); j != nil {
			j.gone = true
			if j.under != nil {
				j.under.SetGone(exchange.Closed)
			}
		}
	}
}

// Away see [push.Handler].
func (p *Pages) Away(*push.Session) {}

// Ended see [push.Handler].
func (p *Pages) Ended(s *push.Session, why push.Code) {
	pg := pageOf(s)
	if pg == nil {
		return
	}
	pg.forget()
	p.opts.Log.Debug("page ended", "page", pg.id, "why", s.Why())
	last := false // a turn of its class
	pg.mu.Lock()
	pg.ended = true
	if !s.Leaving() {
		pg.cookies = nil
	}
	if pg.class != "" && (pg.opened || pg.mailbox != nil) {
		last = true
		pg.addLocked(&pg.mailbox, 1, &job{do: &turn{do: exchange.TurnClose, why: why.Name()}})
	}
	pg.mu.Unlock()
	if p.opts.Ended != nil {
		p.opts.Ended(pg.id)
	}
	if !last {
		pg.over()
	}
}

// over says that nothing of the page is needed any more.
func (pg *page) over() {
	pg.mu.Lock()
	if pg.last != nil {
		close(pg.last)
		pg.last = nil
	}
	pg.mu.Unlock()
	if told := pg.pages.opts.Over; told != nil {
		o := pg.session.Owner()
		told(item.Ended{Kind: item.Page, ID: pg.id, User: o.User, Connection: o.Connection, Why: whyOf(pg.session.Why())})
	}
}

// whyOf gives a reason of push the word of all items.
func whyOf(why string) item.Why {
	switch why {
	case push.CodeIdentity.Name():
		return item.Identity
	case push.CodeRefused.Name():
		return item.Refused
	case push.CodeEnded.Name():
		return item.Failed
	case push.CodeEvicted.Name():
		return item.Full
	}
	return item.Why(why)
}

// Listens reports whether the page's class has a handler of events, or may have one: no
// worker has said yet which classes there are.
func (p *Pages) Listens(id string) bool {
	pg := p.page(id)
	if pg == nil || pg.class == "" {
		return false
	}
	c, _ := p.class(pg.class)
	return c.Events || p.classes.Load() == nil
}

// Event runs the page's handler of events in its turn and waits for its end.
func (p *Pages) Event(ctx context.Context, id, topic string, data json.RawMessage) error {
	pg := p.page(id)
	if pg == nil {
		return ErrNoPage
	}
	at, width := &pg.mailbox, 1
	if pg.concurrent(handlerOf[exchange.TurnEvent]) {
		at, width = &pg.beside, mostAtOnce
	}
	done := make(chan outcome, 1)
	j := &job{do: &turn{do: exchange.TurnEvent, topic: topic, data: data}, done: func(o outcome) { done <- o }}
	if !pg.add(at, width, j) {
		return push.ErrStopping
	}
	select {
	case out := <-done:
		if out.err != nil {
			return out.err
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runs names the application that runs the page's turns: of one without a class, only those that
// write what is shared with its client.
func (pg *page) runs() string {
	if pg.class == "" && pg.pages.opts.Runs != nil {
		return pg.pages.opts.Runs(pg.app)
	}
	return pg.app
}

func (p *Pages) page(id string) *page {
	if s := p.hub.Page(id); s != nil {
		return pageOf(s)
	}
	return nil
}

// reopen has the page's object made anew.
func (pg *page) reopen() {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.opened && !pg.ended && !pg.mailbox.has(exchange.TurnOpen) {
		pg.addLocked(&pg.mailbox, 1, &job{do: &turn{do: exchange.TurnOpen}})
	}
}

// Met says with which surroundings the client of a page came now.
func (p *Pages) Met(s *push.Session, f From) {
	if pg := pageOf(s); pg != nil {
		pg.mu.Lock()
		pg.from = f
		pg.mu.Unlock()
		pg.touched()
	}
}

var _ push.Handler = (*Pages)(nil)

// do does a job.
func (pg *page) do(j *job) {
	switch {
	case j.held != nil:
		j.held.wait(pg.pages.over)
	case j.do != nil:
		pg.turn(j)
	default:
		pg.request(j)
	}
}

// begin notes how a job that begins now is cancelled; false: nobody waits for it.
func (pg *page) begin(j *job, x *exchange.Exchange) bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if j.gone {
		return false
	}
	j.under = x
	return true
}

// ends forgets how: the exchange is over.
func (pg *page) ends(j *job) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	j.under = nil
}
