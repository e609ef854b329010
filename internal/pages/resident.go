package pages

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// Resident answers requests to a page itself, by on_request of its class: the object that
// also has its messages.
type Resident struct {
	Pages *Pages
	// Origin reports whether a page of this origin may ask.
	Origin func(origin string, x *exchange.Exchange) bool
	// Known gives the connection of the client; empty: it has none.
	Known func(x *exchange.Exchange) (connection string)
	// Patience is how long a request waits for the turn of a page of this application; 0: for ever.
	// A handler that asks its own page waits for itself, which nobody sees but by the clock.
	Patience func(app string) time.Duration
}

// asked is what on_request gets.
type asked struct {
	Method string          `json:"method"`
	Path   string          `json:"path"` // behind the page's id
	Query  string          `json:"query"`
	Data   json.RawMessage `json:"data"`
}

// Serve answers what follows /_guado/page/: an id, and perhaps a path.
func (r *Resident) Serve(x *exchange.Exchange) {
	if origin := x.Field("origin"); origin != nil && !r.Origin(string(origin), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf("a page of %q may not ask pages here; allow it with push.origins", origin)})
		return
	}
	id, path, _ := strings.Cut(strings.TrimPrefix(string(x.Path), OwnPaths+"page/"), "/")
	id, _, _ = strings.Cut(id, "|")
	pg := r.Pages.page(id)
	// Of another's page it says the same as of one that there is not.
	if pg == nil || pg.class == "" || pg.session.Owner().Connection != r.Known(x) {
		x.Fail(&exchange.Problem{Status: 404, Code: "no_page", Err: fmt.Errorf("the client has no page %.80q of a class", id)})
		return
	}
	body, problem := exchange.ReadBody(x, r.Pages.hub.Options().Message)
	if problem != nil {
		x.Fail(problem)
		return
	}
	if len(body) == 0 {
		body = nil // null
	}
	if body != nil && !json.Valid(body) {
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_page", Err: fmt.Errorf("the body of a request to a page is no JSON")})
		return
	}
	data, err := json.Marshal(asked{x.Method, path, string(x.Query), body})
	if err != nil {
		x.Fail(&exchange.Problem{Status: 500, Code: "internal_error", Err: err})
		return
	}
	out, there := pg.ask(x, exchange.TurnHTTP, data, r.Patience(pg.app))
	if !there {
		x.Fail(&exchange.Problem{Status: 499, Code: "client_gone", Err: errClientGone})
		return
	}
	answerTurn(x, out)
}

var errClientGone = errors.New("the client left before its page had answered")

// ask runs a handler in its turn for a request; false: the client has left.
func (pg *page) ask(x *exchange.Exchange, do exchange.TurnKind, data []byte, patience time.Duration) (out outcome, there bool) {
	var done atomic.Pointer[outcome]
	j := &job{do: &turn{do: do, data: data}, reply: true, done: func(o outcome) {
		done.Store(&o)
		x.Ring()
	}}
	if !pg.admit(j) {
		pg.pages.count.busy.Add(1)
		return outcome{err: errBusy}, true
	}
	var late <-chan time.Time // nil: never
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		late = t.C
	}
	for {
		if o := done.Load(); o != nil {
			return *o, true
		}
		if x.Gone() == exchange.Closed {
			pg.giveUp(j)
			return outcome{}, false
		}
		select {
		case <-x.Bell():
		case <-late:
			if pg.takeBack(j) {
				pg.pages.count.busy.Add(1)
				return outcome{wait: true, err: &push.ReplyError{Code: "queue_wait", Message: fmt.Sprintf("the page has been busy for %s; a handler that asks its own page by HTTP waits for itself", patience)}}, true
			}
		}
	}
}

// takeBack takes a request out of its line; false: its turn has come.
func (pg *page) takeBack(j *job) bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	i := slices.Index(j.line.waiting, j)
	if i >= 0 {
		j.line.waiting = slices.Delete(j.line.waiting, i, i+1)
	}
	return i >= 0
}

// admit puts a request into its line; false: too many wait.
func (pg *page) admit(j *job) bool {
	at, width := &pg.mailbox, 1
	if pg.concurrent(handlerOf[j.do.do]) {
		at, width = &pg.beside, mostAtOnce
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.ended || *at != nil && len((*at).waiting) >= mostWaiting {
		return false
	}
	return pg.addLocked(at, width, j)
}

// giveUp ends what nobody waits for any more.
func (pg *page) giveUp(j *job) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	j.gone, j.done = true, func(outcome) {}
	if j.under != nil {
		j.under.SetGone(exchange.Closed)
	}
}

// statusOf gives errors of turns their status.
func statusOf(out outcome) int {
	switch {
	case out.wait, out.err == errBusy:
		return 503
	case out.lost:
		return 502
	case out.err.Code == "no_handler":
		return 404
	case out.err.Code == "not_shared":
		return 403
	case out.err.Code == "store_full":
		return 413
	case out.err.Code == "failed":
		return 500
	}
	return 400
}

func answerTurn(x *exchange.Exchange, out outcome) {
	status, text := 200, out.data
	if out.err != nil {
		status = statusOf(out)
		more := map[string]string{"code": out.err.Code, "message": out.err.Message}
		if status >= 500 { // whoever reports it names what the log has of it
			more["request_id"] = cmp.Or(out.id, x.ID)
		}
		said, err := json.Marshal(more)
		if err != nil {
			said = []byte(`{"code":"failed"}`)
		}
		text = said
	} else if text == nil {
		text = []byte("null")
	}
	answerJSON(x, status, text)
}

func answerJSON(x *exchange.Exchange, status int, text []byte) {
	head := exchange.Head{Status: status, Length: int64(len(text)), Fields: []exchange.Field{
		{Name: []byte("Content-Type"), Value: []byte("application/json")},
		{Name: []byte("Cache-Control"), Value: []byte("no-store")},
	}}
	if status == 503 {
		head.Fields = append(head.Fields, exchange.Field{Name: []byte("Retry-After"), Value: []byte("1")})
	}
	if err := x.Answer.Head(head); err == nil && x.Method != "HEAD" {
		_, _ = x.Answer.Write(text) // the lane sees that the client left
	}
}
