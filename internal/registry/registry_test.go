package registry_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/guado-server/guado/internal/clock"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// rig is an index with those who keep its items, and the stores that they may have.
type rig struct {
	*registry.Registry
	t     rapid.TB
	clock *clock.Clock
	ident *identity.Server
	pages *pages.Pages
	kept  *mirror.Mirror

	mu     sync.Mutex
	ended  []item.Ended
	rested []string
}

func start(t rapid.TB, dir string, o push.Options) *rig {
	t.Helper()
	r := &rig{t: t, clock: clock.New(), kept: mirror.New(0, mirror.Limits{})}
	o.Clock = r.clock
	told := func(e item.Ended) { r.Ended(e) }
	var err error
	r.ident, err = identity.New(identity.Options{
		Dir: dir, Log: slog.New(slog.DiscardHandler), TTL: 2 * time.Hour, GuestTTL: 30 * time.Minute, Clock: r.clock, Ended: told,
		Live: func(c string) bool { return r.pages.Hub().Has(c) },
		Changed: func(c identity.Change) {
			if c.Before == "" || c.Keep {
				r.pages.LoggedIn(c.Connection, c.After, c.Page)
			} else {
				r.pages.LoggedOut(c.Connection, c.After, c.Page)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.pages = pages.New(pages.Options{Push: o, Over: told, NewID: identity.NewID, Known: func(c string) bool {
		_, is := r.ident.Find(c)
		return is
	}})
	r.Registry = registry.New(registry.Options{Identity: r.ident, Pages: r.pages})
	r.OnEnded(func(e item.Ended) {
		r.kept.Drop(mirror.Ref{Kind: mirror.Kind(e.Kind), ID: e.ID})
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = append(r.ended, e)
	})
	return r
}

func (r *rig) close() {
	r.Close()
	r.pages.Close()
	r.ident.Close()
}

func (r *rig) makes(kind item.Kind, told registry.Told) string {
	r.t.Helper()
	i, err := r.Create(kind, told)
	if err != nil {
		r.t.Fatalf("create a %s: %v", kind, err)
	}
	return i.ID
}

func (r *rig) connection(user string) string {
	return r.makes(item.Connection, registry.Told{User: &user})
}

func (r *rig) page(connection string) string {
	return r.makes(item.Page, registry.Told{Connection: connection})
}

func (r *rig) there(kind item.Kind, id string) bool {
	_, ok := r.Get(kind, id)
	return ok
}

// awaits what comes with a timer's goroutine.
func awaits(t rapid.TB, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
	}
}

// whys tells in which order items have ended, and why.
func (r *rig) whys() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.ended {
		list = append(list, fmt.Sprint(e.Kind, " ", e.ID, " ", e.Why))
	}
	return list
}

// tab is a client's connection to its page.
type tab struct {
	mu   sync.Mutex
	code push.Code
}

func (c *tab) Send([]byte) (int, error) { return 0, nil }

func (c *tab) Close(code push.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.code = code
}

func (r *rig) connects(page, connection string) *tab {
	r.t.Helper()
	c := &tab{}
	if _, refusal := r.pages.Hub().Attach(push.Hello{Page: page, Client: "c" + page}, connection, c); refusal != nil {
		r.t.Fatal(refusal)
	}
	return c
}

// keeps gives an item a store of about so many bytes.
func (r *rig) keeps(kind item.Kind, id string, bytes int) {
	r.t.Helper()
	value := []byte(`"` + strings.Repeat("x", bytes-33-2) + `"`) // less what a leaf of a short key costs
	records := binary.LittleEndian.AppendUint32([]byte{1, 1, 1, 0, 'k'}, uint32(len(value)))
	if err := r.kept.Restore("o:"+id, mirror.Ref{Kind: mirror.Kind(kind), ID: id}, append(records, value...)); err != nil {
		r.t.Fatal(err)
	}
}

// Bytes, Of and Rest are of registry.Stores: all that is kept is in the worker until it rests.
func (r *rig) Bytes() (total, worker int64) {
	total = r.kept.Bytes()
	r.mu.Lock()
	defer r.mu.Unlock()
	worker = total
	for _, id := range r.rested {
		worker -= r.Of(item.Page, id)
	}
	return total, worker
}

func (r *rig) Of(kind item.Kind, id string) int64 {
	return r.kept.StoreBytes(mirror.Ref{Kind: mirror.Kind(kind), ID: id})
}

func (r *rig) Rest(page string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.rested, page) {
		return 0
	}
	r.rested = append(r.rested, page)
	return r.Of(item.Page, page)
}

func TestRoomIsMadeInTheOrderInWhichItHurtsLeast(t *testing.T) {
	r := start(t, t.TempDir(), push.Options{})
	defer r.close()
	const each = 1000
	ann, guest := r.connection("ann"), r.connection("")
	present, away, old, fresh := r.page(ann), r.page(ann), r.page(ann), r.page(guest)
	r.Touch(item.Page, old)
	r.clock.Advance(time.Second)
	r.Touch(item.Page, away)
	r.clock.Advance(time.Second)
	client := r.connects(present, ann)
	alone := r.makes(item.User, registry.Told{ID: "bob"})
	other := r.connection("")
	kinds := map[string]item.Kind{present: item.Page, away: item.Page, old: item.Page, fresh: item.Page, alone: item.User, other: item.Connection, ann: item.Connection}
	for id, kind := range kinds {
		r.keeps(kind, id, each)
	}
	if total, _ := r.Bytes(); total != int64(len(kinds)*each) {
		t.Fatalf("%d bytes", total)
	}
	order := []string{fresh, alone, old, away, other, present}
	for n := range order {
		left := int64((len(kinds) - n) * each)
		limit := (left-each)*100/75 + 100 // so that one must go
		if left <= limit/100*80 {
			limit = left * 100 / 81
		}
		r.Keep(r, registry.Limits{Total: limit})
		r.Grown()
		awaits(t, fmt.Sprintf("the end of %d", n), func() bool {
			r.Grown() // again, if the last time was not quite over
			return !r.there(kinds[order[n]], order[n])
		})
		awaits(t, "the account of it", func() bool { return r.Status().State.Freed == int64((n+1)*each) })
		for _, id := range order[n+1:] {
			if !r.there(kinds[id], id) {
				t.Fatalf("after %d: %s %s has ended before its turn: %v", n, kinds[id], id, r.whys())
			}
		}
	}
	client.mu.Lock()
	code := client.code
	client.mu.Unlock()
	if code != push.CodeEvicted {
		t.Errorf("the client was told %d, and not that its page had to make room", code)
	}
	for i, why := range r.whys() {
		if !strings.HasSuffix(why, "memory") || !strings.Contains(why, order[i]) {
			t.Errorf("%d: %s", i, why)
		}
	}
	if st := r.Status(); st.State.Bytes != each || st.State.Freed != 6*each || st.Pages.Ended[item.Memory] != 4 {
		t.Errorf("%+v", st)
	}
	if e, ok := r.EndOf(item.Page, present); !ok || e.Why != item.Memory || e.Connection != ann || e.User != "ann" {
		t.Errorf("why it has ended: %+v", e)
	}
}

func TestTheWorkerForgetsPagesBeforeAnyEnds(t *testing.T) {
	r := start(t, t.TempDir(), push.Options{})
	defer r.close()
	c := r.connection("ann")
	var all []string
	for range 10 {
		p := r.page(c)
		r.Touch(item.Page, p)
		r.keeps(item.Page, p, 1000)
		r.clock.Advance(time.Second)
		all = append(all, p)
	}
	r.Keep(r, registry.Limits{Total: 1 << 20, Worker: 12000}) // 80 % are 9,600, 75 % are 9,000
	r.Grown()
	awaits(t, "room", func() bool { return r.Status().State.Runs == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.rested, all[:1]) || len(r.ended) > 0 {
		t.Errorf("rested %q of %q, ended %v", r.rested, all, r.ended)
	}
}

func TestWhatBelongsToAConnectionEndsWithIt(t *testing.T) {
	r := start(t, t.TempDir(), push.Options{})
	defer r.close()
	c := r.connection("ann")
	p := r.page(c)
	if n := r.Drop(item.User, "ann", false); n != 3 {
		t.Errorf("%d have ended", n)
	}
	if want := []string{"page " + p + " above", "connection " + c + " dropped", "user ann dropped"}; !slices.Equal(r.whys(), want) {
		t.Errorf("ended %q, not %q", r.whys(), want)
	}
	if _, err := r.Create(item.Page, registry.Told{Connection: c}); err == nil {
		t.Error("a page of a connection that there is not")
	}
}

// life is the model of an item: when it was used last, and how long it lives from then on.
type life struct {
	kind       item.Kind
	connection string // of a page
	used       time.Duration
	busy       time.Duration // of a connection: it may have been found in use, because of a page
	claimed    bool
	user       string
}

// slack is what a timer may be late, or a client's last sign of life rounded.
const slack = 2 * time.Second

// TestItemsEndWhenNobodyUsesThem holds items against a model while the clock is moved.
func TestItemsEndWhenNobodyUsesThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "registry")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		r := start(t, dir, push.Options{})
		defer r.close()
		m := lives{t, r, map[string]*life{}, nil}
		t.Repeat(map[string]func(*rapid.T){
			"connection": func(t *rapid.T) {
				user := rapid.SampledFrom([]string{"", "", "ann", "bob"}).Draw(t, "user")
				m.add(r.connection(user), &life{kind: item.Connection, used: r.clock.Now(), user: user})
			},
			"page": func(t *rapid.T) {
				if c := m.one(t, item.Connection); c != "" {
					m.add(r.page(c), &life{kind: item.Page, connection: c, used: r.clock.Now()})
				}
			},
			"touch": func(t *rapid.T) { m.touch(m.one(t, item.Page)) },
			"use":   func(t *rapid.T) { m.touch(m.one(t, item.Connection)) },
			"time": func(t *rapid.T) {
				m.pass(time.Duration(rapid.IntRange(1, 3*3600).Draw(t, "seconds")) * time.Second)
			},
			"a while": func(t *rapid.T) {
				m.pass(time.Duration(rapid.IntRange(1, 50).Draw(t, "seconds")) * time.Second)
			},
		})
		awaits(t, "the end of all", func() bool {
			r.clock.Advance(time.Hour)
			st := r.Status()
			return st.Pages.Now+st.Connections.Now+st.Users.Now == 0
		})
	})
}

// lives are the items of a model.
type lives struct {
	t     *rapid.T
	r     *rig
	all   map[string]*life
	order []string
}

// one is an item that surely goes on living; empty: there is none.
func (m *lives) one(t *rapid.T, kind item.Kind) string {
	var ids []string
	for _, id := range m.order {
		if l := m.all[id]; l != nil && l.kind == kind {
			if live, _ := m.span(id, l); m.r.clock.Now()-l.used+slack < live {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return ids[rapid.IntRange(0, len(ids)-1).Draw(t, "which")]
}

func (m *lives) add(id string, l *life) {
	m.all[id] = l
	m.order = append(m.order, id)
}

func (m *lives) touch(id string) {
	l := m.all[id]
	if l == nil {
		return
	}
	if !m.r.Touch(l.kind, id) {
		m.t.Fatalf("%s %s has ended before its time", l.kind, id)
	}
	l.used, l.claimed = m.r.clock.Now(), true
	if c := m.all[l.connection]; c != nil {
		c.used = l.used
	}
}

// pass lets time go by, and looks at everything.
func (m *lives) pass(d time.Duration) {
	m.r.clock.Advance(d)
	now := m.r.clock.Now()
	var gone []string
	for id, l := range m.all {
		live, late := m.span(id, l)
		switch {
		case now-l.used+slack < live:
			if !m.r.there(l.kind, id) {
				m.t.Fatalf("%s %s has ended after %v of %v", l.kind, id, now-l.used, live)
			}
		case now-max(l.used, l.busy) > live+late+slack:
			gone = append(gone, id)
		}
	}
	// Connections live while their pages do, so pages are looked at first.
	slices.SortFunc(gone, func(a, b string) int { return int(m.all[a].kind) - int(m.all[b].kind) })
	for _, id := range gone {
		l := m.all[id]
		awaits(m.t, fmt.Sprintf("the end of %s %s", l.kind, id), func() bool {
			if l.kind == item.Connection {
				m.r.clock.Advance(time.Minute) // the last look may have begun before the clock was moved
			}
			return !m.r.there(l.kind, id)
		})
		if c := m.all[l.connection]; c != nil {
			c.busy = now // the look that found it idle may have found the page still there
		}
		delete(m.all, id)
	}
}

// span is how long an item lives, and how much later it may be seen to have ended.
func (m *lives) span(id string, l *life) (live, late time.Duration) {
	if l.kind == item.Page {
		if l.claimed {
			return 30 * time.Minute, 0
		}
		return time.Minute, 0
	}
	for _, p := range m.all {
		if p.connection == id {
			l.busy = m.r.clock.Now() // it lives while its pages do
		}
	}
	live, late = 30*time.Minute, 30*time.Minute/4
	if l.user != "" {
		live = 2 * time.Hour
	}
	return live, late
}
