package identity

import (
	"errors"
	"slices"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

// asksFor has a request ask for a login, and do what the test says.
func (b *browser) asksFor(user string, then func(x *exchange.Exchange, v *Visit)) *exchange.Collected {
	b.t.Helper()
	return b.visits(func(x *exchange.Exchange) {
		v := b.server.Visit(x.Who.Key)
		if c, err := v.Ask(user, ""); err != nil || c.User != user || c.ID == "" {
			b.t.Errorf("%+v, %v", c, err)
		}
		then(x, v)
	})
}

func TestALoginThatIsAskedForComesWithTheCommitOrNotAtAll(t *testing.T) {
	var told, unasked []string
	s := open(t, Options{
		Changed: func(c Change) { told = append(told, c.Before+">"+c.After) },
		Unasked: func(user string) { unasked = append(unasked, user) },
	})
	b := newBrowser(t, s)
	guest := b.touches()
	token := b.token()
	died := func(x *exchange.Exchange, _ *Visit) {
		if !s.Asked("ann") {
			t.Error("its code may not use what is the user's")
		}
		x.Fail(&exchange.Problem{Status: 502, Code: "worker_died"})
	}
	b.asksFor("ann", died)
	if who := b.is(); who.User != "" || who.Connection != guest.ID || b.token() != token || s.Asked("ann") {
		t.Errorf("%+v", who)
	}
	// It had no connection: that is made, and stays a guest's.
	fresh := newBrowser(t, s)
	fresh.asksFor("ann", died)
	if who := fresh.is(); who.User != "" || who.Connection == "" {
		t.Errorf("%+v", who)
	}
	if st := s.Status(); st.Logins != 0 || st.Users != 0 || len(told) > 0 || !slices.Equal(unasked, []string{"ann", "ann"}) {
		t.Errorf("%+v, told %q, unasked %q", st, told, unasked)
	}
	b.asksFor("ann", func(x *exchange.Exchange, v *Visit) {
		s.Committed(x.Who.Key + 1000) // another one's
		if len(told) > 0 {
			t.Error("it comes before the commit")
		}
		if c, err := v.Touch(); err != nil || c.User != "ann" {
			t.Errorf("%+v, %v", c, err)
		}
		s.Committed(x.Who.Key)
		if !slices.Equal(told, []string{">ann"}) || s.Asked("ann") {
			t.Errorf("told %q", told)
		}
		s.Committed(x.Who.Key)
		x.Fail(&exchange.Problem{Status: 500, Code: "application_error"})
	})
	if who := b.is(); who.User != "ann" || who.Connection != guest.ID || b.token() == token {
		t.Errorf("%+v", who)
	}
	if len(told) != 1 || len(unasked) != 2 {
		t.Errorf("told %q, unasked %q", told, unasked)
	}
}

func TestOfSeveralLoginsTheLastOneComes(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.touches()
	b.asksFor("ann", func(x *exchange.Exchange, v *Visit) {
		if _, err := v.Ask("bob", "bl"); err != nil {
			t.Error(err)
		}
		if s.Asked("ann") || !s.Asked("bob") {
			t.Error("who is asked for is not the last one")
		}
		s.Committed(x.Who.Key)
		answers(t, x)
	})
	if who := b.is(); who.User != "bob" {
		t.Errorf("%+v", who)
	}
	b.asksFor("ann", func(x *exchange.Exchange, v *Visit) {
		if err := v.Logout(); err != nil { // at once, and it takes back what was asked
			t.Error(err)
		}
		s.Committed(x.Who.Key)
		answers(t, x)
	})
	if who := b.is(); who.User != "" {
		t.Errorf("%+v", who)
	}
	if st := s.Status(); st.Logins != 1 {
		t.Errorf("%+v", st)
	}
}

// What was under way when another request's login came gets a connection of its own.
func TestALoginThatIsOvertakenByAnotherOneDoesNotTouchItsConnection(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	c := b.touches()
	slow := b.twin()
	slow.asksFor("mallory", func(x *exchange.Exchange, _ *Visit) {
		b.asksFor("ann", func(y *exchange.Exchange, _ *Visit) {
			s.Committed(y.Who.Key)
			answers(t, y)
		})
		s.Committed(x.Who.Key)
		answers(t, x)
	})
	if who := b.is(); who.User != "ann" || who.Connection != c.ID {
		t.Errorf("%+v", who)
	}
	if who := slow.is(); who.User != "mallory" || who.Connection == c.ID {
		t.Errorf("%+v", who)
	}
}

func TestBehindTheHeadNobodyIsLoggedIn(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.touches()
	b.visits(func(x *exchange.Exchange) {
		v := s.Visit(x.Who.Key)
		answers(t, x)
		if _, err := v.Ask("ann", ""); !errors.Is(err, ErrHeadSent) {
			t.Errorf("%v", err)
		}
		if _, err := v.Ask("a\nb", ""); !errors.Is(err, ErrUser) {
			t.Errorf("%v", err)
		}
	})
	b.asksFor("ann", func(x *exchange.Exchange, _ *Visit) { // the client was answered at the deadline
		key := x.Who.Key
		x.Fail(&exchange.Problem{Status: 504, Code: "deadline"})
		s.Committed(key)
	})
	if who := b.is(); who.User != "" {
		t.Errorf("%+v", who)
	}
}
