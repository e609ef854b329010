package identity

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/guado-server/guado/internal/exchange"
)

// model is what must hold whatever browsers, thieves and planters do: of each connection
// the newest cookie opens it, and no other.
type model struct {
	server *Server
	users  map[string]string // of each connection
	newest map[string]string // cookie of each connection
	before map[string]string // the one that was the newest until the last change
	seen   []string          // all cookies ever
	whose  map[string]string // and their connections
}

func (m *model) any(t *rapid.T) string {
	return rapid.SampledFrom(append([]string{""}, m.seen...)).Draw(t, "cookie")
}

// asks sends a request with a cookie and notes the one that comes back.
func (m *model) asks(t *rapid.T, cookie string, do func(x *exchange.Exchange, v *Visit)) {
	x, answer := exchange.New(), &exchange.Collected{}
	x.Scheme, x.Answer = "http", answer
	if cookie != "" {
		x.Fields = []exchange.Field{{Name: []byte("cookie"), Value: []byte("guado=" + cookie)}}
	}
	m.server.Step(Policy{}, exchange.HandlerFunc(func(x *exchange.Exchange) {
		do(x, m.server.Visit(x.Who.Key))
		if err := x.Answer.Head(exchange.Head{Status: 200}); err != nil {
			t.Fatal(err)
		}
	})).Serve(x)
	set := answer.Field("set-cookie")
	if set == nil {
		return
	}
	for value := range cookies(&exchange.Exchange{Request: exchange.Request{Fields: []exchange.Field{{Name: []byte("cookie"), Value: set}}}}, "guado") {
		token, ok := m.server.keys.verify(value)
		if !ok {
			t.Fatalf("the cookie %q is not ours", value)
		}
		id := token.connection
		m.before[id], m.newest[id] = m.newest[id], string(value)
		m.whose[string(value)] = id
		m.seen = append(m.seen, string(value))
		return
	}
	t.Fatalf("no cookie in %q", set)
}

// opens is the connection that a cookie opens; late: it is the one of before.
func (m *model) opens(cookie string) (id string, late bool) {
	id = m.whose[cookie]
	switch {
	case cookie == "":
	case m.newest[id] == cookie:
		return id, false
	case m.before[id] == cookie:
		return "", true
	}
	return "", false
}

func (m *model) check(t *rapid.T) {
	for _, cookie := range append([]string{""}, m.seen...) {
		id, _ := m.opens(cookie)
		m.asks(t, cookie, func(x *exchange.Exchange, _ *Visit) {
			if x.Who.Connection != id || x.Who.User != m.users[id] {
				t.Fatalf("%q opens %+v, not %q of %q", cookie, x.Who, id, m.users[id])
			}
		})
	}
}

func (m *model) touch(t *rapid.T) {
	cookie := m.any(t)
	id, late := m.opens(cookie)
	m.asks(t, cookie, func(_ *exchange.Exchange, v *Visit) {
		c, err := v.Touch()
		switch {
		case late && !errors.Is(err, ErrUnderWay), !late && err != nil:
			t.Fatal(err)
		case id != "" && (c.ID != id || c.User != m.users[id]):
			t.Fatalf("%+v, not %q", c, id)
		case id == "" && m.newest[c.ID] != "":
			t.Fatalf("%q gave the connection %q of others", cookie, c.ID)
		case id == "" && !late:
			m.users[c.ID] = ""
		}
	})
}

func (m *model) login(t *rapid.T) {
	cookie, user := m.any(t), rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "user")
	id, _ := m.opens(cookie)
	m.asks(t, cookie, func(_ *exchange.Exchange, v *Visit) {
		c, err := v.Login(user, "")
		if err != nil || c.User != user {
			t.Fatal(c, err)
		}
		if id != "" && c.ID != id || id == "" && m.newest[c.ID] != "" {
			t.Fatalf("%q logs the connection %q in", cookie, c.ID)
		}
		m.users[c.ID] = user
	})
}

func (m *model) logout(t *rapid.T) {
	cookie := m.any(t)
	id, _ := m.opens(cookie)
	m.asks(t, cookie, func(_ *exchange.Exchange, v *Visit) {
		if err := v.Logout(); err != nil {
			t.Fatal(err)
		}
		if id != "" {
			m.users[id] = ""
		}
	})
}

func TestOfEachConnectionTheNewestCookieOpensItAndNoOther(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			server: open(t, Options{}), users: map[string]string{}, whose: map[string]string{},
			newest: map[string]string{}, before: map[string]string{},
		}
		defer m.server.Close()
		rt.Repeat(map[string]func(*rapid.T){"": m.check, "touch": m.touch, "login": m.login, "logout": m.logout})
		st := m.server.Status()
		if st.Connections != len(m.users) {
			rt.Fatalf("%d connections, not %d", st.Connections, len(m.users))
		}
	})
}
