package identity

import (
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestAConnectionBeginsOnlyWhenTheApplicationWantsOne(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	answer := b.visits(func(x *exchange.Exchange) {
		if got := field(x.Fields, "guado-exchange"); got != strconv.FormatUint(x.Who.Key, 10) || x.Who.Connection+x.Who.User+x.Who.Page != "" {
			t.Errorf("exchange %q, %+v", got, x.Who)
		}
		answers(t, x)
	})
	if len(b.jar) != 0 || answer.Field("cache-control") != nil || len(s.Connections()) != 0 {
		t.Errorf("cookies %v, fields %q, connections %v", b.jar, answer.Fields, s.Connections())
	}
	c := b.touches()
	if _, _, err := ParseID(c.ID); err != nil || c.User != "" || len(b.jar) != 1 {
		t.Errorf("%+v, cookies %v", c, b.jar)
	}
	for range 3 {
		if who := b.is(); who.Connection != c.ID || who.User != "" {
			t.Errorf("%+v, not %s", who, c.ID)
		}
		if again := b.touches(); again.ID != c.ID {
			t.Errorf("another connection %s", again.ID)
		}
	}
	if found, ok := s.Find(c.ID); !ok || found.ID != c.ID || len(s.Connections()) != 1 {
		t.Errorf("%+v %v", found, ok)
	}
}

func TestTheCookieIsSetOnceAndOnlyForThisHostByHTTPS(t *testing.T) {
	for _, c := range []struct {
		scheme, domain, name, end string
	}{
		{"https", "", "__Host-guado", "; Path=/; HttpOnly; SameSite=Lax; Secure"},
		{"http", "", "guado", "; Path=/; HttpOnly; SameSite=Lax"},
		{"https", "Example.org", "__Secure-guado", "; Path=/; HttpOnly; SameSite=Lax; Domain=example.org; Secure"},
		{"http", "example.org", "guado", "; Path=/; HttpOnly; SameSite=Lax; Domain=example.org"},
	} {
		s := open(t, Options{Cookie: Cookie{Domain: c.domain}})
		b := newBrowser(t, s)
		b.scheme = c.scheme
		touch := func(x *exchange.Exchange) {
			if _, err := s.Visit(x.Who.Key).Touch(); err != nil {
				t.Error(err)
			}
			answers(t, x, "Set-Cookie", "theirs=1")
		}
		first, second := b.visits(touch), b.visits(touch)
		want := "theirs=1, " + c.name + "=" + b.jar[c.name] + c.end
		if got := field(first.Fields, "set-cookie"); got != want {
			t.Errorf("%v: %q, not %q", c, got, want)
		}
		if got := field(second.Fields, "set-cookie"); got != "theirs=1" {
			t.Errorf("%v: once more: %q", c, got)
		}
	}
}

// A cookie without the prefix may have been planted by somebody in the network.
func TestOverHTTPSTheCookieOfHTTPIsNotRead(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.scheme = "http"
	c := b.touches()
	if who := b.is(); who.Connection != c.ID {
		t.Fatalf("%+v", who)
	}
	b.scheme = "https"
	if who := b.is(); who.Connection != "" {
		t.Errorf("%+v", who)
	}
}

func TestAnswersToKnownClientsArePrivateUnlessTheApplicationSaysOtherwise(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	say := func(fields ...string) func(x *exchange.Exchange) {
		return func(x *exchange.Exchange) {
			_, err := s.Visit(x.Who.Key).Touch()
			if err != nil {
				t.Error(err)
			}
			answers(t, x, fields...)
		}
	}
	for i, c := range []struct {
		fields []string
		want   string
	}{
		{nil, "private"}, // the one that makes the connection
		{nil, "private"},
		{[]string{"cache-control", "max-age=60"}, "max-age=60"},
		{[]string{"CACHE-CONTROL", "no-store"}, "no-store"},
	} {
		if got := field(b.visits(say(c.fields...)).Fields, "cache-control"); got != c.want {
			t.Errorf("%d: %q", i, got)
		}
	}
}

func TestTheApplicationIsToldWhoItIsAndTheClientNothing(t *testing.T) {
	page := NewID()
	var mine string
	s := open(t, Options{Owner: func(p string) (string, bool) { return mine, p == page }})
	b := newBrowser(t, s)
	mine = b.logsIn("Zoë").ID
	b.page = page + "|p02"
	answer := b.visits(func(x *exchange.Exchange) {
		for name, want := range map[string]string{
			"guado-connection": mine, "guado-user": "Zoë", "guado-page": page, "guado-message": "",
		} {
			if got := field(x.Fields, name); got != want {
				t.Errorf("%s: %q, not %q", name, got, want)
			}
		}
		answers(t, x, "X-Own", "1", "Guado-User", "eve", "guado-anything", "2", "Guado-", "3")
	})
	if got := field(answer.Fields, "x-own"); got != "1" || field(answer.Fields, "guado-user")+field(answer.Fields, "guado-anything") != "" {
		t.Errorf("%q", answer.Fields)
	}
	if who := b.is(); who.User != "Zoë" {
		t.Errorf("the mount is not believed, but %+v", who)
	}
}

func TestNothingOfTheServersFieldsStaysInTheRequest(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.logsIn("ann")
	x, _ := b.asks()
	before := slices.Clone(x.Fields)
	s.Step(b.policy, exchange.HandlerFunc(func(x *exchange.Exchange) { answers(t, x) })).Serve(x)
	if !reflect.DeepEqual(x.Fields, before) || x.Who != nil {
		t.Errorf("%q, before %q, %v", x.Fields, before, x.Who)
	}
}

func TestAnAnswerOfATrustedMountLogsInAndOut(t *testing.T) {
	var log strings.Builder
	s := open(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	b := newBrowser(t, s)
	b.policy.TrustUser = true
	says := func(user string) {
		answer := b.visits(func(x *exchange.Exchange) { answers(t, x, "guado-user", user) })
		if got := answer.Field("guado-user"); got != nil {
			t.Errorf("the client is told %q", got)
		}
	}
	says("ann")
	ann := b.is()
	if ann.User != "ann" || len(b.jar) != 1 {
		t.Fatalf("%+v", ann)
	}
	token := b.token()
	says("ann") // as applications do that say it with every answer
	if who := b.is(); who != (exchange.Who{Key: who.Key, Connection: ann.Connection, User: "ann"}) || b.token() != token {
		t.Errorf("%+v; the cookie is another one: %v", who, b.token() != token)
	}
	says("b\tob")
	if who := b.is(); who.User != "ann" || !strings.Contains(log.String(), "is not logged in") {
		t.Errorf("%+v, log %s", who, log.String())
	}
	says("")
	if who := b.is(); who.User != "" || who.Connection != ann.Connection || b.token() == token {
		t.Errorf("%+v", who)
	}
}

func TestEachChangeOfTheUserIsTold(t *testing.T) {
	var told []string
	s := open(t, Options{Changed: func(c Change) { told = append(told, c.Connection+":"+c.Before+">"+c.After+c.Page) }})
	b := newBrowser(t, s)
	c := b.touches()
	b.logsIn("ann")
	b.logsIn("ann")
	b.logsIn("bob")
	b.logsOut()
	b.logsOut()
	want := []string{c.ID + ":>ann", c.ID + ":ann>bob", c.ID + ":bob>"}
	if !slices.Equal(told, want) {
		t.Errorf("%q, not %q", told, want)
	}
	fresh := newBrowser(t, s)
	fresh.logsIn("cia") // it had no pages yet
	if len(told) != len(want) {
		t.Errorf("%q", told)
	}
	st := s.Status()
	if st.Logins != 3 || st.Logouts != 1 || st.Connections != 2 || st.Guests != 1 || st.Users != 1 || st.Made != 2 {
		t.Errorf("%+v", st)
	}
}

func TestAfterTheHeadNoConnectionBegins(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.visits(func(x *exchange.Exchange) {
		v := s.Visit(x.Who.Key)
		answers(t, x)
		_, err := v.Touch()
		if !errors.Is(err, ErrHeadSent) {
			t.Errorf("touch: %v", err)
		}
		if _, err := v.Login("ann", ""); !errors.Is(err, ErrHeadSent) {
			t.Errorf("login: %v", err)
		}
	})
	c := b.logsIn("ann")
	b.visits(func(x *exchange.Exchange) {
		v := s.Visit(x.Who.Key)
		answers(t, x)
		if again, err := v.Touch(); err != nil || again.ID != c.ID {
			t.Errorf("the connection that is there already: %v, %v", again, err)
		}
		if _, err := v.Login("bob", ""); !errors.Is(err, ErrHeadSent) {
			t.Errorf("login: %v", err)
		}
		if err := v.Logout(); err != nil { // it is never too late for that
			t.Error(err)
		}
	})
	if who := b.is(); who.User != "" {
		t.Errorf("%+v", who)
	}
}

func TestAnExchangeThatIsOverIsNoLongerThere(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	var late *Visit
	var key uint64
	b.visits(func(x *exchange.Exchange) {
		key = x.Who.Key
		late = s.Visit(key)
		if err := late.Read(func(seen *exchange.Exchange) {
			if seen != x {
				t.Error("another exchange")
			}
		}); err != nil {
			t.Error(err)
		}
		answers(t, x)
	})
	b.visits(func(x *exchange.Exchange) { // the memory of the first is used again
		if _, err := late.Touch(); !errors.Is(err, ErrOver) {
			t.Errorf("touch: %v", err)
		}
		_, login := late.Login("ann", "")
		if err := late.Read(func(*exchange.Exchange) { t.Error("called") }); !errors.Is(err, ErrOver) || !errors.Is(login, ErrOver) || !errors.Is(late.Logout(), ErrOver) {
			t.Errorf("read: %v, login: %v", err, login)
		}
		answers(t, x)
	})
	if s.Visit(key) != nil || s.Visit(0) != nil || s.Visit(1<<60) != nil {
		t.Error("it is still there")
	}
}

func TestAProblemOfTheHostBringsTheCookieOfALogin(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.touches()
	before := b.token()
	answer := b.visits(func(x *exchange.Exchange) {
		if _, err := s.Visit(x.Who.Key).Login("ann", ""); err != nil {
			t.Error(err)
		}
		x.Fail(&exchange.Problem{Status: 502, Code: "worker_died"})
	})
	if answer.Refused == nil || b.token() == before {
		t.Fatalf("%+v", answer.Refused)
	}
	if who := b.is(); who.User != "ann" {
		t.Errorf("%+v", who)
	}
}

func TestNamesOfUsersMustFitIntoAField(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	for _, bad := range []string{"", " ann", "ann ", "a\nb", "a\x00b", "\x7f", "\u0085", "a\xffb", strings.Repeat("a", 256)} {
		b.visits(func(x *exchange.Exchange) {
			if bad != "" {
				if _, err := s.Visit(x.Who.Key).Login("ann", bad); !errors.Is(err, ErrUser) {
					t.Errorf("the flag %q: %v", bad, err)
				}
			}
			if _, err := s.Visit(x.Who.Key).Login(bad, ""); !errors.Is(err, ErrUser) {
				t.Errorf("%q: %v", bad, err)
			}
			answers(t, x)
		})
	}
	for _, good := range []string{"ann", "Ann Lee", "zoë@example.org", "用户", strings.Repeat("a", 255)} {
		if b.logsIn(good); b.is().User != good {
			t.Errorf("%q: %+v", good, b.is())
		}
	}
}

func TestWhereARequestNamesItsPage(t *testing.T) {
	a, b := NewID(), NewID()
	var mine string
	s := open(t, Options{Owner: func(p string) (string, bool) { return mine, p == a || p == b }})
	tab := newBrowser(t, s)
	mine = tab.touches().ID
	for _, c := range []struct {
		header, query, form string
		want                string // "conflict" for 400
	}{
		{"", "", "", ""},
		{a, "", "", a}, {a + "|p07", "", "", a},
		{"", "x=1&page_id=" + a, "", a}, {"", "page_id=" + a + "%7Cp02&y", "", a},
		{"", "", "page_id=" + a, a}, {"", "", "u=1&page_id=" + b + "%7Cp02", b},
		{a, "page_id=" + a, "page_id=" + a + "%7Cp01", a},
		{a, "page_id=" + b, "", "conflict"}, {a, "", "page_id=" + b, "conflict"},
		{"", "page_id=" + a + "&page_id=" + b, "", "conflict"}, {"", "page_id=" + a, "page_id=" + b, "conflict"},
		{"", "page_id=7", "", ""}, {a, "page_id=7&page_id=%zz", "page_id=home", a}, // their own, for something else
		{"", "xpage_id=" + a + "&page_idx=" + a, "", ""}, {"garbage", "", "", ""},
		{NewID(), "", "", ""}, // nobody's
	} {
		tab.page, tab.target, tab.fields = c.header, c.query, map[string]string{}
		tab.change = nil
		if c.form != "" {
			tab.change = func(x *exchange.Exchange) {
				x.Method, x.Length = "POST", int64(len(c.form))
				x.Fields = append(x.Fields, exchange.Field{Name: []byte("Content-Type"), Value: []byte("application/x-www-form-urlencoded; charset=utf-8")})
			}
		}
		got := "conflict"
		answer := tab.visits(func(x *exchange.Exchange) {
			if x.Collected != nil {
				if p := x.Collected(x, strings.NewReader(c.form)); p != nil {
					x.Fail(p)
					return
				}
			}
			if got = x.Who.Page; field(x.Fields, "guado-page") != got {
				t.Errorf("%v: the application is told %q", c, field(x.Fields, "guado-page"))
			}
			answers(t, x)
		})
		if p := answer.Refused; got != c.want || (c.want == "conflict") != (p != nil && p.Status == 400 && p.Code == "page_conflict") {
			t.Errorf("%v: %q, %+v", c, got, p)
		}
	}
}

func TestOnlyFormsThatFitAreLookedInto(t *testing.T) {
	page := NewID()
	var mine string
	s := open(t, Options{Owner: func(string) (string, bool) { return mine, true }})
	b := newBrowser(t, s)
	mine = b.touches().ID
	body := "page_id=" + page
	for _, c := range []struct {
		kind   string
		length int64
		want   bool
	}{
		{"application/x-www-form-urlencoded", int64(len(body)), true}, {"APPLICATION/X-WWW-FORM-URLENCODED ;a=b", -1, true},
		{"application/json", int64(len(body)), false}, {"", 5, false}, {"application/x-www-form-urlencoded", 0, false},
		{"application/x-www-form-urlencoded", longestForm + 1, false},
	} {
		b.change = func(x *exchange.Exchange) {
			x.Length = c.length
			x.Fields = append(x.Fields, exchange.Field{Name: []byte("content-type"), Value: []byte(c.kind)})
		}
		b.visits(func(x *exchange.Exchange) {
			if (x.Collected != nil) != c.want {
				t.Errorf("%+v: %v", c, x.Collected != nil)
			}
			if x.Collected != nil && c.length < 0 {
				x.Length = longestForm + 1 // what came was longer
				if p := x.Collected(x, failing{}); p != nil || x.Who.Page != "" {
					t.Errorf("%v %q", p, x.Who.Page)
				}
				x.Length = 4
				if p := x.Collected(x, failing{}); p == nil || p.Code != "body_unreadable" {
					t.Errorf("%v", p)
				}
			}
			answers(t, x)
		})
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestATrustedProxySaysWhoTheUserIs(t *testing.T) {
	for _, o := range []Options{{UserHeader: "X-Remote-User"}, {UserCookie: "sso"}} {
		var told []string
		o.Changed = func(c Change) { told = append(told, c.Before+">"+c.After) }
		s := open(t, o)
		b := newBrowser(t, s)
		proxy := true
		names := func(user string, also ...string) {
			b.change = func(x *exchange.Exchange) {
				x.Proxied = proxy
				f := exchange.Field{Name: []byte(o.UserHeader), Value: []byte(user)}
				if o.UserCookie != "" {
					f = exchange.Field{Name: []byte("cookie"), Value: []byte("sso=" + user)}
				}
				if len(also) == 0 {
					x.Fields = append(x.Fields, f)
				}
			}
		}
		names("ann")
		if who := b.is(); who.User != "ann" || who.Connection != "" || len(b.jar) != 0 {
			t.Errorf("without a connection: %+v", who)
		}
		if c := b.touches(); c.User != "ann" {
			t.Errorf("the new connection: %+v", c)
		}
		token := b.token()
		if who := b.is(); who.User != "ann" || who.Connection == "" || b.token() != token {
			t.Errorf("%+v", who)
		}
		names("", "absent") // a path that the proxy does not look after
		if who := b.is(); who.User != "ann" {
			t.Errorf("named nobody: %+v", who)
		}
		names("bob")
		if who := b.is(); who.User != "bob" || b.token() == token {
			t.Errorf("%+v", who)
		}
		names("")
		if who := b.is(); who.User != "" || who.Connection == "" {
			t.Errorf("logged out: %+v", who)
		}
		names("b\tob")
		if answer := b.visits(func(*exchange.Exchange) { t.Error("it came to the application") }); answer.Refused == nil || answer.Refused.Code != "bad_user" {
			t.Errorf("%+v", answer.Refused)
		}
		names("eve")
		proxy = false
		b.visits(func(x *exchange.Exchange) {
			if x.Who.User != "" || o.UserHeader != "" && x.Field(o.UserHeader) != nil {
				t.Errorf("a client is believed: %+v, %q", x.Who, x.Fields)
			}
			answers(t, x)
		})
		if want := []string{"ann>bob", "bob>"}; !slices.Equal(told, want) {
			t.Errorf("told %q, not %q", told, want)
		}
	}
}

func TestWhoAsksWithoutAStepIsKnownByTheCookie(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	x, _ := b.asks()
	if c, u, ok := s.Known(x); ok || c+u != "" || s.UnderWay(x) {
		t.Errorf("%q %q %v", c, u, ok)
	}
	made, cookie, err := s.Touch(x)
	if err != nil || made.ID == "" {
		t.Fatal(err)
	}
	b.keeps(&exchange.Collected{Fields: []exchange.Field{cookie}})
	x, _ = b.asks()
	if again, cookie, err := s.Touch(x); err != nil || again.ID != made.ID || cookie.Name != nil {
		t.Errorf("%+v %q %v", again, cookie, err)
	}
	b.logsIn("ann")
	x, _ = b.asks()
	if c, u, ok := s.Known(x); !ok || c != made.ID || u != "ann" {
		t.Errorf("%q %q %v", c, u, ok)
	}
}

// A message over the session of a page: its jar may be older than the cookie.
func TestWhatASessionCarriesIsItsConnections(t *testing.T) {
	var told []Change
	s := open(t, Options{Changed: func(c Change) { told = append(told, c) }})
	b := newBrowser(t, s)
	b.touches()
	old := b.twin()
	c := b.logsIn("ann")
	page := NewID()
	old.change = func(x *exchange.Exchange) {
		x.Carried, x.CarriedUser, x.Message, x.GuadoPage = c.ID, "ann", true, []byte(page+"|p01")
	}
	old.visits(func(x *exchange.Exchange) {
		if x.Who.Connection != c.ID || x.Who.User != "ann" || field(x.Fields, "guado-message") != "1" {
			t.Errorf("%+v %q", x.Who, x.Fields)
		}
		if _, err := s.Visit(x.Who.Key).Login("bob", ""); err != nil {
			t.Error(err)
		}
		answers(t, x)
	})
	if want := []Change{{Connection: c.ID, After: "ann"}, {Connection: c.ID, Before: "ann", After: "bob", Page: page}}; !slices.Equal(told, want) {
		t.Errorf("told %+v, not %+v", told, want)
	}
	// Ann's it was, when the client sent it; bob's it must not become.
	answer := old.visits(func(*exchange.Exchange) { t.Error("a message of ann's was done as bob") })
	if p := answer.Refused; p == nil || p.Code != "login_under_way" {
		t.Errorf("it is %+v", answer)
	}
	old.change = nil
	if who := old.is(); who.User != "bob" || who.Connection != c.ID {
		t.Errorf("the cookie of the answer: %+v", who)
	}
	gone := newBrowser(t, s)
	gone.change = func(x *exchange.Exchange) { x.Carried = NewID() }
	if who := gone.is(); who.Connection != "" {
		t.Errorf("%+v", who)
	}
}

// upgrader keeps the fields of the handshake.
type upgrader struct{ fields []exchange.Field }

func (*upgrader) Check(*exchange.Exchange) *exchange.Problem { return nil }
func (u *upgrader) Upgrade(_ *exchange.Exchange, fields []exchange.Field, _ exchange.SocketHandler) (exchange.Socket, error) {
	u.fields = slices.Clone(fields)
	return nil, nil //nolint:nilnil // nobody uses it
}

func TestTheHandshakeOfAWebSocketSetsTheCookie(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	lane := &upgrader{}
	b.change = func(x *exchange.Exchange) { x.Upgrader = lane }
	b.visits(func(x *exchange.Exchange) {
		if p := x.Upgrader.Check(x); p != nil {
			t.Error(p)
		}
		if _, err := s.Visit(x.Who.Key).Touch(); err != nil {
			t.Error(err)
		}
		own := []exchange.Field{{Name: []byte("Guado-User"), Value: []byte("eve")}, {Name: []byte("X-Own"), Value: []byte("1")}}
		if _, err := x.Upgrader.Upgrade(x, own, nil); err != nil {
			t.Error(err)
		}
	})
	if field(lane.fields, "x-own") != "1" || field(lane.fields, "guado-user") != "" || !strings.HasPrefix(field(lane.fields, "set-cookie"), "__Host-guado=") || field(lane.fields, "cache-control") != "" {
		t.Errorf("%q", lane.fields)
	}
}
