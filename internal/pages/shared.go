package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// Shared answers clients without a session that ask what has changed of what is shared with
// them, or write it.
type Shared struct {
	Pages *Pages
	// Origin reports whether a page of this origin may ask.
	Origin func(origin string, x *exchange.Exchange) bool
	// Known gives the connection of the client; empty: it has none.
	Known func(x *exchange.Exchange) (connection string)
	// HandOut gives the changes that wait for a page, and the number of the last. They
	// wait until they are acknowledged.
	HandOut func(page string) (list []byte, number uint64)
	// Acknowledge forgets them up to a number; [ErrNumber]: it was never handed out.
	Acknowledge func(page string, number uint64) error
	// Patience is how long a request waits for the turn of a page of this application; 0: for ever.
	Patience func(app string) time.Duration
	// Kept returns when what is handed out is kept, or why it cannot be; nil: nobody keeps it.
	Kept func() error
}

// ErrNumber is told who acknowledges a change that nobody gave to it.
var ErrNumber = errors.New("no change of this number was ever handed out")

// Serve answers GET, with the changes, and POST, which writes.
func (s *Shared) Serve(x *exchange.Exchange) {
	if x.Method != "GET" && x.Method != "POST" {
		notAllowed(x, "GET, POST")
		return
	}
	if origin := x.Field("origin"); origin != nil && !s.Origin(string(origin), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf("a page of %q may not ask for changes here; allow it with push.origins", origin)})
		return
	}
	id, _, _ := strings.Cut(string(x.GuadoPage), "|")
	pg := s.Pages.page(id)
	if pg == nil || pg.session.Owner().Connection != s.Known(x) {
		x.Fail(&exchange.Problem{Status: 404, Code: "no_page", Err: fmt.Errorf("the client has no page %.80q", x.GuadoPage)})
		return
	}
	if problem := s.Acknowledges(x, pg.id); problem != nil {
		x.Fail(problem)
		return
	}
	s.Pages.Touch(pg.id)
	if x.Method == "POST" {
		s.write(x, pg)
		return
	}
	list, number := s.HandOut(pg.id)
	if s.Kept != nil {
		if err := s.Kept(); err != nil {
			x.Fail(&exchange.Problem{Status: 503, Code: "durability_unavailable", RetryAfter: 1, Err: err})
			return
		}
	}
	if x.GuadoAck == nil { // once, and not before it can be answered
		_ = s.Acknowledge(pg.id, number) // of what is not shared any more nothing waits
	}
	answerJSON(x, 200, fmt.Appendf(nil, `{"changes":%s,"number":%d}`, list, number))
}

// Acknowledges does what the field Guado-Ack of a request says, where it has one.
func (s *Shared) Acknowledges(x *exchange.Exchange, page string) *exchange.Problem {
	if x.GuadoAck == nil {
		return nil
	}
	number, err := strconv.ParseUint(string(x.GuadoAck), 10, 53)
	if err != nil {
		return &exchange.Problem{Status: 400, Code: "bad_ack", Err: fmt.Errorf("the field Guado-Ack is %.40q, and not the number of a change", x.GuadoAck)}
	}
	if page == "" {
		return nil
	}
	if err := s.Acknowledge(page, number); err != nil {
		return &exchange.Problem{Status: 409, Code: "ack_unknown", Err: err}
	}
	return nil
}

// Step has the field Guado-Ack of every request of a page do what it says.
func (s *Shared) Step(next exchange.Handler) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		if x.GuadoAck != nil {
			page := ""
			if x.Who != nil {
				page = x.Who.Page
			}
			if problem := s.Acknowledges(x, page); problem != nil {
				x.Fail(problem)
				return
			}
		}
		next.Serve(x)
	})
}

// write runs the turn that writes what a client sends.
func (s *Shared) write(x *exchange.Exchange, pg *page) {
	body, problem := exchange.ReadBody(x, s.Pages.hub.Options().Message)
	if problem != nil {
		x.Fail(problem)
		return
	}
	var want struct {
		Changes json.RawMessage `json:"changes"`
	}
	if err := json.Unmarshal(body, &want); err != nil || len(want.Changes) == 0 {
		answerTurn(x, outcome{said: true, err: &push.ReplyError{Code: "bad_change", Message: `the body is no {"changes":[…]}`}})
		return
	}
	out, there := pg.ask(x, exchange.TurnWrite, writing(want.Changes, 0), s.Patience(pg.app))
	if !there {
		x.Fail(&exchange.Problem{Status: 499, Code: "client_gone", Err: errClientGone})
		return
	}
	answerTurn(x, out)
}

// writing is what a turn gets that writes; message: of the client's session, 0: of none.
func writing(changes []byte, message uint64) []byte {
	return fmt.Appendf(nil, `{"changes":%s,"as":%d}`, changes, message)
}

// Changes gives the client of a page what tells of shared values: it is queued for the page's
// session, also under locks. What follows from it is done elsewhere.
func (p *Pages) Changes(page string, list []byte, all bool) {
	s := p.hub.Page(page)
	if s == nil {
		return
	}
	payload, err := p.hub.NewValues(list, all)
	if err == nil {
		_, err = s.Queue(payload)
	}
	switch {
	case err == nil:
		if s.Waits() && !p.Go(s.Tell) {
			p.opts.Log.Debug("a page's news is told at its next frame", "page", page)
		}
	case errors.Is(err, push.ErrEnded), errors.Is(err, push.ErrStopping):
	default:
		// Half of what is shared would be as bad as half a page.
		p.opts.Log.Error("what is shared with the client of a page cannot be sent: it ends, and its client begins anew", "page", page, "error", err)
		p.Go(func() { s.End(push.CodeEnded) })
	}
}

// Go runs f on a goroutine of the pages; false: the host stops.
func (p *Pages) Go(f func()) bool { return p.work.begin(taskFunc(f)) }

// Pause waits; false: nobody waits any more, the host stops.
func (p *Pages) Pause(d time.Duration) bool { return p.pause(d) }
