package pages

import (
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/push"
)

// Item tells of a page as of any item; false: there is none.
func (p *Pages) Item(id string) (item.Item, bool) {
	if pg := p.page(id); pg != nil {
		return pg.item(), true
	}
	return item.Item{}, false
}

// Items tells of the pages of a user or of a connection, or of all.
func (p *Pages) Items(user, connection string) []item.Item {
	var all []*push.Session
	switch {
	case connection != "":
		all = p.hub.Connection(connection)
	case user != "":
		all = p.hub.User(user)
	default:
		all = p.hub.Sessions()
	}
	list := make([]item.Item, 0, len(all))
	for _, s := range all {
		if pg := pageOf(s); pg != nil {
			list = append(list, pg.item())
		}
	}
	return list
}

func (pg *page) item() item.Item {
	s := pg.session
	o := s.Owner()
	out := item.Item{
		Kind: item.Page, ID: pg.id, User: o.User, Connection: o.Connection, Started: pg.made, Seen: s.Seen(),
		App: pg.app, Class: pg.class, Path: pg.path, Connected: s.Connected(), Claimed: s.Claimed(),
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	out.Put(pg.meta)
	if from := &pg.from; from.Client.IsValid() {
		out.Address = from.Client.Addr().String()
	}
	return out
}

// Update changes what a page says of itself.
func (p *Pages) Update(id string, change func(m *item.Meta) error) error {
	pg := p.page(id)
	if pg == nil {
		return ErrNoPage
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.touched()
	return change(&pg.meta)
}

// Touch says that a page is in use; false: there is none.
func (p *Pages) Touch(id string) bool {
	s := p.hub.Page(id)
	if s != nil {
		s.Touch()
	}
	return s != nil
}

// Count tells how many pages there are, of a user or a connection, or of all.
func (p *Pages) Count(user, connection string) int {
	if user == "" && connection == "" {
		return p.hub.Count()
	}
	return p.hub.CountOf(push.Owner{User: user, Connection: connection})
}

// touched says that what is kept of the page has changed.
func (pg *page) touched() { pg.pages.hub.Options().Touched(pg.id) }

// Objects is how many pages have an object in the worker.
func (p *Pages) Objects() int64 { return p.objects.Load() }

// Resident reports whether the worker has the object of a page.
func (p *Pages) Resident(id string) bool {
	pg := p.page(id)
	if pg == nil {
		return false
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.resident
}

// Rest lets the worker forget the object and the store of a page for which nothing is to be
// done now: its next turn makes it anew. False: there is no such page, or it is in use; else
// over is called when the worker has done so, or will not.
func (p *Pages) Rest(id string, over func()) bool {
	pg := p.page(id)
	if pg == nil {
		return false
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.ended || pg.mailbox != nil || pg.beside != nil || pg.messages != nil {
		return false
	}
	return pg.addLocked(&pg.mailbox, 1, &job{do: &turn{do: exchange.TurnClose}, done: func(outcome) { over() }})
}

// Rests reports whether an exchange is the turn by which the worker forgets a page.
func Rests(x *exchange.Exchange) bool {
	return x.Turn != nil && x.Turn.Do == exchange.TurnClose && x.Turn.Why == ""
}

// setResident notes whether the worker has the page's object.
func (pg *page) setResident(is bool) {
	if pg.class == "" {
		return
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case pg.resident == is:
		return
	case is:
		pg.pages.objects.Add(1)
	default:
		pg.pages.objects.Add(-1)
		pg.byHTTP, pg.byMessage = false, false
	}
	pg.resident = is
}
