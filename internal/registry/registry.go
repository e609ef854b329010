// Package registry is the index of users, connections and pages as applications and operators
// ask for it: making and ending items, looking them up, picking and counting them.
// Before it: verbs of workers, the admin interface. After it: identity, which keeps users and
// connections, and pages.
// Not here: what items keep in stores (mirror); who a request is of (identity); sessions (push).
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
)

// Options of a [Registry].
type Options struct {
	Identity *identity.Server
	Pages    *pages.Pages
	Log      *slog.Logger
}

// Registry is the index. Its methods may be called from any goroutine.
type Registry struct {
	opts  Options
	ended []func(item.Ended)
	made  [item.User + 1]atomic.Uint64
	ends  ends
	shed  shedder
}

// New makes the index. [Registry.Close] must be called.
func New(o Options) *Registry {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{opts: o}
}

// OnEnded registers who hears of each item that has ended: a page when its class has had its
// last turn, a connection after its pages were told to end, a user last. Before the server
// serves; f is called without locks and must not wait.
func (r *Registry) OnEnded(f func(item.Ended)) { r.ended = append(r.ended, f) }

// Ended is told of all ends; whoever keeps items calls it.
func (r *Registry) Ended(e item.Ended) {
	if e.Kind == item.Connection {
		for _, p := range r.opts.Pages.Items("", e.ID) {
			r.opts.Pages.EndFor(p.ID, item.Above)
		}
	}
	r.ends.note(e)
	for _, f := range r.ended {
		f(e)
	}
}

// Errors that callers tell apart, beside those of identity and pages.
var (
	ErrNone   = identity.ErrNone
	ErrExists = identity.ErrExists
	ErrOwner  = errors.New("a page needs a connection that there is")
	ErrFixed  = errors.New("what an item belongs to is fixed: a page to its connection, a user to nobody")
)

// Told is what an application says of an item.
type Told struct {
	ID         string                     `json:"id"`
	User       *string                    `json:"user"`
	Connection string                     `json:"connection"`
	Address    *string                    `json:"address"`
	Agent      *string                    `json:"user_agent"`
	App        string                     `json:"app"`
	Path       string                     `json:"path"`
	Fields     map[string]json.RawMessage `json:"fields"`
}

// put takes over what was told.
func (t *Told) put(m *item.Meta) error {
	next := *m
	if t.Address != nil {
		next.Address = netip.Addr{}
		if *t.Address != "" {
			a, err := netip.ParseAddr(*t.Address)
			if err != nil {
				return fmt.Errorf("%w: address %.60q", ErrTold, *t.Address)
			}
			next.Address = a
		}
	}
	if t.Agent != nil {
		next.Agent = item.NewAgent([]byte(*t.Agent))
	}
	if err := next.Merge(t.Fields); err != nil {
		return err
	}
	*m = next
	return nil
}

// ErrTold is told of what cannot be understood.
var ErrTold = errors.New("this cannot be kept with an item")

func (t *Told) user() string {
	if t.User == nil {
		return ""
	}
	return *t.User
}

// Create makes an item.
func (r *Registry) Create(kind item.Kind, t Told) (item.Item, error) {
	var m item.Meta
	if err := t.put(&m); err != nil {
		return item.Item{}, err
	}
	var err error
	switch kind {
	case item.User:
		if t.ID == "" {
			t.ID = t.user()
		}
		_, err = r.opts.Identity.CreateUser(t.ID, m)
	case item.Connection:
		var c identity.Connection
		c, err = r.opts.Identity.Create(t.ID, t.user(), m)
		t.ID = c.ID
	case item.Page:
		t.ID, err = r.openPage(t, m)
	}
	if err != nil {
		return item.Item{}, err
	}
	r.made[kind].Add(1)
	i, ok := r.Get(kind, t.ID)
	if !ok {
		return item.Item{}, ErrNone // it had to make room at once
	}
	return i, nil
}

func (r *Registry) openPage(t Told, m item.Meta) (string, error) {
	if base, _, err := identity.ParseID(t.ID); t.ID != "" && (err != nil || base != t.ID) {
		return "", identity.ErrID
	}
	c, ok := r.opts.Identity.Find(t.Connection)
	if !ok {
		return "", fmt.Errorf("%w, not %.40q", ErrOwner, t.Connection)
	}
	if t.User != nil && *t.User != c.User {
		return "", fmt.Errorf("%w: it is %q's, and the page is to be %q's", ErrFixed, c.User, *t.User)
	}
	id, err := r.opts.Pages.Open(pages.Opening{
		ID: t.ID, Connection: c.ID, User: c.User, App: t.App, Path: t.Path, Meta: m,
	})
	if errors.Is(err, push.ErrExists) {
		return "", ErrExists
	}
	return id, err
}

// Get gives an item by its id.
func (r *Registry) Get(kind item.Kind, id string) (i item.Item, ok bool) {
	switch kind {
	case item.User:
		var u identity.User
		if u, ok = r.opts.Identity.FindUser(id); ok {
			i = r.ofUser(u)
		}
	case item.Connection:
		var c identity.Connection
		if c, ok = r.opts.Identity.Find(id); ok {
			i = r.ofConnection(c)
		}
	case item.Page:
		i, ok = r.opts.Pages.Item(id)
	}
	if ok {
		i.Bytes = r.Weight(kind, id)
	}
	return i, ok
}

// Weight is what the store of an item costs in the account.
func (r *Registry) Weight(kind item.Kind, id string) int64 {
	if s := r.shed.stores; s != nil {
		return s.Of(kind, id)
	}
	return 0
}

func (r *Registry) ofUser(u identity.User) item.Item {
	i := item.Item{
		Kind: item.User, ID: u.Name, User: u.Name, Flag: u.Flag, Started: u.Since, Seen: u.Seen,
		Connections: u.Connections, Pages: r.opts.Pages.Count(u.Name, ""),
	}
	i.Put(item.Meta{Address: u.Address, Agent: u.Agent, Fields: u.Fields})
	return i
}

func (r *Registry) ofConnection(c identity.Connection) item.Item {
	i := item.Item{
		Kind: item.Connection, ID: c.ID, User: c.User, Flag: c.Flag, Started: c.Since, Seen: c.Seen,
		Pages: r.opts.Pages.Count("", c.ID),
	}
	i.Put(item.Meta{Address: c.Address, Agent: c.Agent, Fields: c.Fields})
	return i
}

// Update changes what an item says of itself, and of a connection that the application has
// made whose it is: its pages go with it.
func (r *Registry) Update(kind item.Kind, t Told) (item.Item, error) {
	if t.Connection != "" || t.User != nil && kind != item.Connection {
		return item.Item{}, ErrFixed
	}
	var err error
	switch kind {
	case item.User:
		err = r.opts.Identity.UpdateUser(t.ID, t.put)
	case item.Connection:
		if err = r.opts.Identity.Update(t.ID, t.put); err == nil && t.User != nil {
			err = r.opts.Identity.Assign(t.ID, *t.User)
		}
	case item.Page:
		if err = r.opts.Pages.Update(t.ID, t.put); errors.Is(err, pages.ErrNoPage) {
			err = ErrNone
		}
	}
	if err != nil {
		return item.Item{}, err
	}
	if i, ok := r.Get(kind, t.ID); ok {
		return i, nil
	}
	return item.Item{}, ErrNone
}

// Touch says that an item is in use, and with it what it belongs to. False: there is none.
func (r *Registry) Touch(kind item.Kind, id string) bool {
	switch kind {
	case item.User:
		return r.opts.Identity.TouchUser(id)
	case item.Connection:
		return r.opts.Identity.TouchItem(id)
	}
	if !r.opts.Pages.Touch(id) {
		return false
	}
	if c, ok := r.opts.Pages.Owner(id); ok {
		r.opts.Identity.TouchItem(c)
	}
	return true
}

// Drop ends an item and what belongs to it. With cascade, what it belonged to ends, too, if
// nothing else belongs to it: the connection of a page, the user of a connection. It tells
// how many items have ended.
func (r *Registry) Drop(kind item.Kind, id string, cascade bool) (ended int) {
	switch kind {
	case item.User:
		return r.dropUser(id)
	case item.Connection:
		c, ok := r.opts.Identity.Find(id)
		if !ok {
			return 0
		}
		ended = r.dropConnection(id)
		if cascade && ended > 0 && c.User != "" && r.opts.Identity.DropUser(c.User, item.Above) {
			ended++
		}
	case item.Page:
		connection, _ := r.opts.Pages.Owner(id)
		if !r.opts.Pages.EndFor(id, item.Dropped) {
			return 0
		}
		ended = 1
		if cascade && r.opts.Pages.Count("", connection) == 0 {
			ended += r.dropConnection(connection)
		}
	}
	return ended
}

func (r *Registry) dropUser(name string) (ended int) {
	for _, c := range r.opts.Identity.ConnectionsOf(name) {
		ended += r.dropConnection(c.ID)
	}
	if r.opts.Identity.DropUser(name, item.Dropped) {
		ended++
	}
	return ended
}

// dropConnection ends the pages first: their classes may want to see the connection's store.
func (r *Registry) dropConnection(id string) (ended int) {
	for _, p := range r.opts.Pages.Items("", id) {
		if r.opts.Pages.EndFor(p.ID, item.Above) {
			ended++
		}
	}
	if r.opts.Identity.Drop(id, item.Dropped) {
		ended++
	}
	return ended
}

// List gives the items for which the filter is true, in the order in which they began.
func (r *Registry) List(kind item.Kind, f item.Filter, limit int) []item.Item {
	var list []item.Item
	switch kind {
	case item.User:
		for _, u := range r.opts.Identity.Users() {
			list = append(list, r.ofUser(u))
		}
	case item.Connection:
		all := r.opts.Identity.Connections
		if user, is := f.Equal("user"); is && user != "" {
			all = func() []identity.Connection { return r.opts.Identity.ConnectionsOf(user) }
		}
		for _, c := range all() {
			list = append(list, r.ofConnection(c))
		}
	case item.Page:
		user, _ := f.Equal("user")
		connection, _ := f.Equal("connection")
		list = r.opts.Pages.Items(user, connection)
	}
	list = slices.DeleteFunc(list, func(i item.Item) bool { return !f.Match(&i) })
	slices.SortFunc(list, func(a, b item.Item) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	for n := range list {
		list[n].Bytes = r.Weight(kind, list[n].ID)
	}
	return list
}

// Count tells how many there are for which the filter is true.
func (r *Registry) Count(kind item.Kind, f item.Filter) int {
	if len(f) > 0 {
		return len(r.List(kind, f, 0))
	}
	connections, users := r.opts.Identity.Count()
	switch kind {
	case item.User:
		return users
	case item.Connection:
		return connections
	}
	return r.opts.Pages.Count("", "")
}
