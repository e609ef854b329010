package pages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/guado-server/guado/internal/push"
)

// To says to whom something is pushed: exactly one of its members is set.
type To struct {
	Page       string `json:"page,omitempty"`
	User       string `json:"user,omitempty"`
	Connection string `json:"connection,omitempty"`
	All        bool   `json:"all,omitempty"`
}

// Delivery is something to be pushed.
type Delivery struct {
	To       To              `json:"to"`
	Data     json.RawMessage `json:"data"`
	Snapshot bool            `json:"snapshot,omitempty"`
	Ack      bool            `json:"ack,omitempty"`        // Wait will be called
	Timeout  int64           `json:"timeout_ms,omitempty"` // of Wait
}

// Sent tells what became of it.
type Sent struct {
	push.Sent
	Acknowledged *int `json:"acknowledged,omitempty"`

	frames []frame
}

// frame is a number that a client is to acknowledge.
type frame struct {
	session *push.Session
	n       uint64
}

// ErrTo is a push to nobody, or to several kinds at once.
var ErrTo = errors.New(`"to" names one of page, user, connection or "all": true`)

// Push sends, or keeps for clients that come back in time. It waits for nobody. To a page
// that there is not it is [ErrNoPage]; users and connections without pages are none.
func (p *Pages) Push(d Delivery) (Sent, error) {
	to, err := p.sessions(d.To)
	if err != nil {
		return Sent{}, err
	}
	var payload push.Payload
	if d.Snapshot {
		payload, err = p.hub.NewSnapshot(d.Data)
	} else {
		payload, err = p.hub.NewMessage(d.Data, d.Ack)
	}
	if err != nil {
		return Sent{}, err
	}
	if !d.Ack {
		sent := push.Push(payload, to)
		if d.To.Page != "" && sent.Pages == 0 {
			return Sent{}, p.gone(d.To.Page)
		}
		return Sent{Sent: sent}, nil
	}
	var out Sent
	for _, s := range to {
		r, err := s.Push(payload)
		if err != nil {
			continue // it has ended meanwhile
		}
		out.Pages++
		if r.Connected {
			out.Connected++
		}
		out.frames = append(out.frames, frame{s, r.N})
	}
	if d.To.Page != "" && out.Pages == 0 {
		return Sent{}, p.gone(d.To.Page)
	}
	return out, nil
}

// gone is why a page took nothing.
func (p *Pages) gone(id string) error {
	if p.stopping() {
		return push.ErrStopping
	}
	return noPage(id)
}

func noPage(id string) error {
	return fmt.Errorf("%w: %.40q has ended, or never was", ErrNoPage, id)
}

func (p *Pages) sessions(to To) ([]*push.Session, error) {
	n := 0
	for _, is := range []bool{to.Page != "", to.User != "", to.Connection != "", to.All} {
		if is {
			n++
		}
	}
	switch {
	case n != 1:
		return nil, ErrTo
	case to.User != "":
		return p.hub.User(to.User), nil
	case to.Connection != "":
		return p.hub.Connection(to.Connection), nil
	case to.All:
		return p.hub.Sessions(), nil
	}
	if s := p.hub.Page(to.Page); s != nil {
		return []*push.Session{s}, nil
	}
	return nil, noPage(to.Page)
}

// mostWait is how long acknowledgements are waited for at most: frames are not kept longer.
const mostWait = 2 * time.Minute

// Wait waits until all clients have acknowledged, or ctx or the delivery's time ends, and
// counts those that have.
func (p *Pages) Wait(ctx context.Context, d Delivery, sent Sent) Sent {
	limit := mostWait
	if d.Timeout > 0 && d.Timeout < limit.Milliseconds() {
		limit = time.Duration(d.Timeout) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := 0
	for _, f := range sent.frames {
		if f.session.Wait(ctx, f.n) == nil {
			done++
		}
	}
	sent.Acknowledged = &done
	return sent
}

// About is a page, as an application may know it.
type About struct {
	Page       string `json:"page"`
	User       string `json:"user"`
	Connection string `json:"connection"`
	Class      string `json:"class"`
	Connected  bool   `json:"connected"`
}

// Get tells of a page.
func (p *Pages) Get(id string) (About, error) {
	s := p.hub.Page(id)
	if s == nil {
		return About{}, ErrNoPage
	}
	pg := pageOf(s)
	if pg == nil {
		return About{}, ErrNoPage
	}
	owner := s.Owner()
	return About{s.Page(), owner.User, owner.Connection, pg.class, s.Connected()}, nil
}

// Owner tells whose a page is.
func (p *Pages) Owner(id string) (connection string, ok bool) {
	if s := p.hub.Page(id); s != nil {
		return s.Owner().Connection, true
	}
	return "", false
}

// PageStatus is a page, as operators see it.
type PageStatus struct {
	push.Status
	Connection string `json:"connection"`
	App        string `json:"app,omitempty"`
	Class      string `json:"class,omitempty"`
	Path       string `json:"path,omitempty"`

	Started time.Time       `json:"started"`
	Seen    time.Time       `json:"last_seen"`
	Claimed bool            `json:"claimed"` // its client has come once
	Address string          `json:"address,omitempty"`
	Agent   string          `json:"user_agent,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"` // the application's own

	Opened  bool `json:"opened"`  // its class's on_open has succeeded
	Waiting int  `json:"waiting"` // turns and messages
	Running int  `json:"running"`
}

// Status is the pages of a host, as operators see them.
type Status struct {
	push.HubStatus
	Turns     uint64 `json:"turns"`
	Failed    uint64 `json:"failed"`     // turns, those that answered with an error of their own included
	Faults    uint64 `json:"faults"`     // of these: without an answer of the application
	Met       uint64 `json:"met"`        // objects that requests as well as messages have reached
	LostTurns uint64 `json:"lost_turns"` // their worker died
	Again     uint64 `json:"again"`      // turns and messages that no worker could take at first
	Busy      uint64 `json:"busy"`       // messages that were refused: too many waited
	Requests  uint64 `json:"requests"`   // messages that were made requests
}

// Status tells how they are now.
func (p *Pages) Status() Status {
	c := &p.count
	return Status{
		HubStatus: p.hub.Status(), Turns: c.turns.Load(), Failed: c.failed.Load(), LostTurns: c.lost.Load(),
		Again: c.again.Load(), Busy: c.busy.Load(), Faults: c.faults.Load(), Met: c.met.Load(), Requests: c.requests.Load(),
	}
}

// List tells of all pages.
func (p *Pages) List() []PageStatus {
	list := []PageStatus{}
	for _, s := range p.hub.Sessions() {
		if pg := pageOf(s); pg != nil {
			list = append(list, pg.status())
		}
	}
	return list
}

// One tells of one page.
func (p *Pages) One(id string) (PageStatus, bool) {
	if pg := p.page(id); pg != nil {
		return pg.status(), true
	}
	return PageStatus{}, false
}

func (pg *page) status() PageStatus {
	i := pg.item()
	out := PageStatus{
		Status: pg.session.Status(), Connection: i.Connection, App: pg.app, Class: pg.class, Path: pg.path,
		Started: i.Started, Seen: i.Seen, Claimed: i.Claimed, Address: i.Address, Agent: i.Agent, Fields: i.Fields,
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	out.Opened = pg.opened
	for _, l := range []*line{pg.mailbox, pg.beside, pg.messages} {
		if l != nil {
			out.Waiting += len(l.waiting)
			out.Running += l.running
		}
	}
	return out
}

// decode reads what a client sent.
func decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("no JSON object: %w", err)
	}
	return nil
}
