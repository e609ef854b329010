package identity

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

func TestConnectionsEndWhenTheyAreIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{TTL: 2 * time.Hour, GuestTTL: 30 * time.Minute})
		guest, ann, active := newBrowser(t, s), newBrowser(t, s), newBrowser(t, s)
		guest.touches()
		ann.logsIn("ann")
		active.touches()
		for range 7 {
			time.Sleep(5 * time.Minute)
			active.is()
		}
		time.Sleep(time.Second)
		if who := guest.is(); who.Connection != "" {
			t.Errorf("the guest after 35 minutes: %+v", who)
		}
		if a, b := ann.is(), active.is(); a.User != "ann" || b.Connection == "" {
			t.Errorf("%+v, %+v", a, b)
		}
		time.Sleep(2*time.Hour + time.Second)
		if who := ann.is(); who.Connection != "" {
			t.Errorf("the user after 2 hours: %+v", who)
		}
		time.Sleep(time.Hour)
		if st := s.Status(); st.Connections != 0 || st.Users != 0 || st.Expired != 3 {
			t.Errorf("%+v", st)
		}
		s.registry.mu.Lock()
		if s.registry.timer != nil {
			t.Error("it still looks, for nothing")
		}
		s.registry.mu.Unlock()
		guest.touches() // and then it looks again
		time.Sleep(time.Hour)
		if st := s.Status(); st.Connections != 0 || st.Expired != 4 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAConnectionWithPagesIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		pages := map[string]bool{}
		live := func(id string) bool {
			mu.Lock()
			defer mu.Unlock()
			return pages[id]
		}
		s := open(t, Options{Live: live, MaxConnections: 3})
		tab, closed := newBrowser(t, s), newBrowser(t, s)
		id := tab.touches().ID
		mu.Lock()
		pages[id] = true
		mu.Unlock()
		closed.touches()
		time.Sleep(24 * time.Hour)
		if who := tab.is(); who.Connection != id {
			t.Errorf("%+v", who)
		}
		if who := closed.is(); who.Connection != "" {
			t.Errorf("%+v", who)
		}
		time.Sleep(time.Minute)
		for range 5 { // nor does it go for want of room
			newBrowser(t, s).touches()
		}
		if who := tab.is(); who.Connection != id {
			t.Errorf("%+v", who)
		}
		mu.Lock()
		for _, c := range s.Connections() {
			pages[c.ID] = true
		}
		mu.Unlock()
		x, _ := newBrowser(t, s).asks()
		if _, _, err := s.Touch(x); !errors.Is(err, ErrFull) {
			t.Errorf("with no room at all: %v", err)
		}
	})
}

func TestManyWhoComeAtOnceAreNoMoreThanMayBe(t *testing.T) {
	const most = 8
	s := open(t, Options{MaxConnections: most})
	var all sync.WaitGroup
	for range 32 {
		b := newBrowser(t, s)
		all.Go(func() {
			for range 50 {
				x, _ := b.asks()
				if _, _, err := s.Touch(x); err != nil && !errors.Is(err, ErrFull) {
					t.Error(err)
				}
				if n := len(s.Connections()); n > most {
					t.Errorf("%d connections", n)
				}
			}
		})
	}
	all.Wait()
}

func TestTheFirstToGoAreGuestsWhoWereIdleLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{MaxConnections: 4})
		user, old, mid, young := newBrowser(t, s), newBrowser(t, s), newBrowser(t, s), newBrowser(t, s)
		user.logsIn("ann")
		for _, b := range []*browser{old, mid, young} {
			time.Sleep(2 * time.Second)
			b.touches()
		}
		time.Sleep(2 * time.Second)
		old.is() // it is not any more
		newBrowser(t, s).touches()
		if user.is().User != "ann" || old.is().Connection == "" || young.is().Connection == "" || mid.is().Connection != "" {
			t.Errorf("%+v", s.Connections())
		}
		for range 4 { // users go last, and then the one who was idle longest
			time.Sleep(2 * time.Second)
			newBrowser(t, s).logsIn("bob")
		}
		if user.is().User != "" {
			t.Errorf("%+v", s.Connections())
		}
	})
}

func TestUsersAndConnectionsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{})
		for i, user := range []string{"ann", "bob", "", "ann"} {
			time.Sleep(time.Second)
			b := newBrowser(t, s)
			b.visits(func(x *exchange.Exchange) {
				v := s.Visit(x.Who.Key)
				var err error
				if user == "" {
					_, err = v.Touch()
				} else {
					_, err = v.Login(user, fmt.Sprint("flag", i))
				}
				if err != nil {
					t.Error(err)
				}
				answers(t, x)
			})
		}
		var users, connections []string
		for _, u := range s.Users() {
			users = append(users, fmt.Sprint(u.Name, u.Connections, u.Flag))
		}
		for _, c := range s.Connections() {
			connections = append(connections, c.User)
		}
		if !slices.Equal(users, []string{"ann2flag3", "bob1flag1"}) || !slices.Equal(connections, []string{"ann", "", "bob", "ann"}) {
			t.Errorf("%q %q", users, connections)
		}
	})
}

// Many at once: every login is told once, in the order in which it happened.
func TestChangesAreToldInTheirOrder(t *testing.T) {
	var s *Server
	var mu sync.Mutex
	last := map[string]string{}
	s = open(t, Options{Changed: func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		if last[c.Connection] != c.Before {
			t.Errorf("%+v, but it was %q", c, last[c.Connection])
		}
		last[c.Connection] = c.After
	}})
	b := newBrowser(t, s)
	c := b.touches()
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			for n := range 200 {
				other := newBrowser(t, s)
				other.change = func(x *exchange.Exchange) {
					now, _ := s.Find(c.ID)
					x.Carried, x.CarriedUser = c.ID, now.User
				}
				if n%3 == 0 {
					other.logsOut()
				} else {
					other.logsIn(fmt.Sprint("user", i, n))
				}
			}
		})
	}
	wait.Wait()
	now, _ := s.Find(c.ID)
	mu.Lock()
	defer mu.Unlock()
	if last[c.ID] != now.User {
		t.Errorf("told of %q, it is %q", last[c.ID], now.User)
	}
}
