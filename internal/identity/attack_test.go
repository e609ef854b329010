package identity

import (
	"encoding/base64"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/guado-server/guado/internal/exchange"
)

// Fixation: Mallory has a cookie of his own, plants it in Ann's browser, and waits.
func TestACookieThatWasPlantedBeforeTheLoginIsWorthlessAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := NewID()
		var connection string
		s := open(t, Options{Owner: func(p string) (string, bool) { return connection, p == page }})
		mallory := newBrowser(t, s)
		connection = mallory.touches().ID
		ann := mallory.twin()
		ann.logsIn("ann")
		mallory.page = page
		for _, when := range []time.Duration{0, grace - time.Second, 2 * time.Second} {
			time.Sleep(when)
			if who := mallory.is(); who.Connection+who.User+who.Page != "" {
				t.Errorf("he is %+v", who)
			}
		}
		if who := ann.is(); who.User != "ann" || who.Connection != connection {
			t.Errorf("she is %+v", who)
		}
	})
}

// From the moment of the login, and not from when its answer leaves.
func TestWhileTheLoginIsAnsweredTheCookieOfBeforeOpensNothing(t *testing.T) {
	s := open(t, Options{})
	mallory := newBrowser(t, s)
	mallory.touches()
	mallory.is() // it is known by heart
	ann := mallory.twin()
	ann.visits(func(x *exchange.Exchange) {
		if _, err := s.Visit(x.Who.Key).Login("ann", ""); err != nil {
			t.Error(err)
		}
		if who := mallory.is(); who.Connection+who.User != "" {
			t.Errorf("he is %+v", who)
		}
		answers(t, x)
	})
	thief := ann.twin()
	ann.visits(func(x *exchange.Exchange) {
		if err := s.Visit(x.Who.Key).Logout(); err != nil {
			t.Error(err)
		}
		if who := thief.is(); who.Connection+who.User != "" {
			t.Errorf("the thief is %+v", who)
		}
		answers(t, x)
	})
}

// What was under way when the login came must not get a cookie, which would take the place
// of the new one; and it gets nothing of the user's.
func TestARequestOfBeforeTheLoginIsAskedToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{})
		b := newBrowser(t, s)
		connection := b.touches().ID
		late := b.twin()
		b.visits(func(x *exchange.Exchange) { // this one began before, and ends after
			v := s.Visit(x.Who.Key)
			late.twin().logsIn("ann")
			if c, err := v.Touch(); !errors.Is(err, ErrUnderWay) || c.ID != "" {
				t.Errorf("%+v %v", c, err)
			}
			answers(t, x)
		})
		x, _ := late.asks()
		if c, u, ok := s.Known(x); ok || c+u != "" || !s.UnderWay(x) {
			t.Errorf("known: %q %q %v", c, u, ok)
		}
		if c, cookie, err := s.Touch(x); !errors.Is(err, ErrUnderWay) || c.ID != "" || cookie.Name != nil {
			t.Errorf("touch: %+v %q %v", c, cookie, err)
		}
		answer := late.visits(func(x *exchange.Exchange) {
			if c, err := s.Visit(x.Who.Key).Touch(); !errors.Is(err, ErrUnderWay) || c.ID != "" {
				t.Errorf("%+v %v", c, err)
			}
			answers(t, x)
		})
		if answer.Field("set-cookie") != nil {
			t.Errorf("%q", answer.Fields)
		}
		if st := s.Status(); st.Stale == 0 || st.Made != 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(later)
		x, _ = late.asks()
		if _, _, ok := s.Known(x); ok || s.UnderWay(x) {
			t.Error("it is still remembered")
		}
		if c := late.touches(); c.ID == connection || c.ID == "" {
			t.Errorf("%+v", c)
		}
	})
}

// Two logins of one browser at once: neither gets what is the other's.
func TestALoginWithTheCookieOfBeforeGetsAConnectionOfItsOwn(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	mallory := b.twin()
	first := b.touches()
	mallory.has(b.token())
	b.logsIn("ann")
	second := mallory.logsIn("mallory")
	if second.ID == first.ID || second.User != "mallory" {
		t.Errorf("%+v", second)
	}
	if who := b.is(); who.User != "ann" || who.Connection != first.ID {
		t.Errorf("%+v", who)
	}
	if who := mallory.is(); who.User != "mallory" || who.Connection != second.ID {
		t.Errorf("%+v", who)
	}
	// The same from within a request that began before.
	c := newBrowser(t, s)
	third := c.touches()
	c.visits(func(x *exchange.Exchange) {
		v := s.Visit(x.Who.Key)
		d := c.twin()
		d.logsIn("dan")
		if own, err := v.Login("mallory", ""); err != nil || own.ID == third.ID {
			t.Errorf("%+v %v", own, err)
		}
		if who := d.is(); who.User != "dan" || who.Connection != third.ID {
			t.Errorf("%+v", who)
		}
		answers(t, x)
	})
}

// Replay: the cookie was stolen; logging out ends what it was good for.
func TestTheCookieOfBeforeTheLogoutIsWorthlessAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{})
		ann := newBrowser(t, s)
		ann.logsIn("ann")
		thief := ann.twin()
		if who := thief.is(); who.User != "ann" {
			t.Fatalf("%+v", who)
		}
		ann.logsOut()
		if who := thief.is(); who.Connection+who.User != "" {
			t.Errorf("%+v", who)
		}
		ann.logsIn("ann")
		time.Sleep(later)
		if who := thief.is(); who.Connection+who.User != "" {
			t.Errorf("%+v", who)
		}
		// Nor is it good again when the number of logins has gone around.
		for range 5 {
			ann.logsOut()
			ann.logsIn("ann")
		}
		if who := thief.is(); who.Connection+who.User != "" {
			t.Errorf("%+v", who)
		}
	})
}

func TestAPageOfAnotherConnectionIsAsUnknownAsNone(t *testing.T) {
	owners := map[string]string{}
	s := open(t, Options{Owner: func(p string) (string, bool) { c, ok := owners[p]; return c, ok }})
	ann, mallory, stranger := newBrowser(t, s), newBrowser(t, s), newBrowser(t, s)
	page := NewID()
	owners[page] = ann.logsIn("ann").ID
	mallory.logsIn("mallory")
	for _, b := range []*browser{mallory, stranger} {
		for _, id := range []string{page, page + "|p01", NewID()} {
			b.page = id
			if who := b.is(); who.Page != "" {
				t.Errorf("%s: %+v", id, who)
			}
		}
	}
	ann.page = page
	if who := ann.is(); who.Page != page {
		t.Errorf("%+v", who)
	}
}

func TestATokenThatIsChangedAnywhereIsNone(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.logsIn("ann")
	good := b.token()
	if who := b.is(); who.User != "ann" {
		t.Fatalf("%+v", who)
	}
	try := func(token string) {
		t.Helper()
		b.has(token)
		if who := b.is(); who.Connection+who.User != "" {
			t.Errorf("%q is taken for %+v", token, who)
		}
	}
	for i := range len(good) {
		try(good[:i])                                        // shorter
		try(good[:i] + string(good[i]^1) + good[i+1:])       // another byte
		try(good[:i] + "0" + good[i:])                       // longer
		try(good[:i] + strings.ToUpper(good[i:]) + good[:i]) // nonsense
	}
	try("")
	try("1.0." + NewID() + "." + strings.Repeat("A", 43))
	mine := strings.Split(good, ".")
	// The last letter of the signature has bits that mean nothing: one spelling is good.
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if end := good[:len(good)-1] + string(c); end != good {
			try(end)
		}
	}
	for _, version := range []string{"1", "2", "01", "+1", "4294967296", "-1", ""} {
		try(strings.Join([]string{mine[0], version, mine[2], mine[3]}, "."))
	}
	if s.Status().Forged == 0 {
		t.Error("nobody has counted")
	}
	b.has(good)
	if who := b.is(); who.User != "ann" {
		t.Errorf("%+v", who)
	}
}

func TestNoCookieButOursIsAToken(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.logsIn("ann")
	good := b.token()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[12]\.[0-9]{1,3}\.[A-Za-z0-9_]{22}\.[A-Za-z0-9_-]{43}`)).Draw(t, "token")
		if _, ok := s.keys.verify([]byte(text)); ok && text != good {
			t.Fatalf("%q is believed", text)
		}
	})
}

// The signature says what it is for: another one made with the same key is none.
func TestASignatureForSomethingElseIsNone(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	c := b.touches()
	body := "1.0." + c.ID
	k := s.keys.keys[0]
	other := newKey(k.id, k.secret)
	h := other.macs.New().(interface {
		Write([]byte) (int, error)
		Sum([]byte) []byte
	})
	if _, err := h.Write([]byte(body)); err != nil { // without the purpose
		t.Fatal(err)
	}
	if _, ok := s.keys.verify([]byte(body + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil)))); ok {
		t.Error("it is believed")
	}
	if _, ok := s.keys.verify([]byte(b.token())); !ok {
		t.Error("the real one is not")
	}
}

func TestOfSeveralCookiesTheGoodOneCounts(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	c := b.logsIn("ann")
	good := b.token()
	b.has("x; a=b; __Host-guado=; __Host-guado=1.0." + NewID() + "." + strings.Repeat("A", 43) + ";__Host-guado=" + good)
	if who := b.is(); who.Connection != c.ID {
		t.Errorf("%+v", who)
	}
	b.has(strings.Repeat("1.0."+NewID()+"."+strings.Repeat("A", 43)+"; __Host-guado=", 100) + good)
	if who := b.is(); who.Connection != "" {
		t.Errorf("hundreds were looked at: %+v", who)
	}
}

// Robots keep no cookies.
func TestRobotsLeaveTheMemoryAsItWas(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	step := s.Step(b.policy, exchange.HandlerFunc(func(x *exchange.Exchange) { answers(t, x, "Content-Type", "text/html") }))
	robot := func() {
		x, _ := b.asks()
		step.Serve(x)
	}
	for range 1000 {
		robot()
	}
	before := heap()
	for range 100_000 {
		robot()
	}
	if grown := heap() - before; grown > 256<<10 {
		t.Errorf("%d bytes more", grown)
	}
	if st := s.Status(); st.Connections != 0 || st.Made != 0 {
		t.Errorf("%+v", st)
	}
}

// Where the application opens pages for everybody, robots do get connections; they are
// bounded, and users stay.
func TestRobotsThatTouchDriveOutNobodyWhoIsLoggedIn(t *testing.T) {
	const most = 1000
	s := open(t, Options{MaxConnections: most})
	ann := newBrowser(t, s)
	ann.logsIn("ann")
	robot := newBrowser(t, s)
	for range 5 * most {
		robot.jar = map[string]string{}
		robot.touches()
	}
	if who := ann.is(); who.User != "ann" {
		t.Errorf("%+v", who)
	}
	if st := s.Status(); st.Connections > most || st.Evicted < 4*most-most/64 {
		t.Errorf("%+v", st)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give back what they hold with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
