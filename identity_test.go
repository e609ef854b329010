package guado_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// seen is what an application tells of a request, and what came with it.
type seen struct {
	Fields     map[string]string `json:"fields"`
	Connection string            `json:"connection"`
	User       string            `json:"user"`

	cookie string // Set-Cookie of the answer
	header http.Header
}

// sees asks with these cookies and fields ("Name: value").
func (s *site) sees(c *http.Client, path, cookie string, fields ...string) (got seen) {
	s.t.Helper()
	var pairs []string
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		pairs = append(pairs, name, value)
	}
	if cookie != "" {
		pairs = append(pairs, "Cookie", cookie)
	}
	res, body := ask(s.t, c, "GET", s.url+path, nil, pairs...)
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 {
		s.t.Fatalf("%s: %d %s", path, res.StatusCode, body)
	}
	got.header = res.Header
	if set := res.Header.Values("Set-Cookie"); len(set) > 1 {
		s.t.Errorf("%s: %q", path, set)
	}
	got.cookie, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
	for name := range res.Header {
		if strings.HasPrefix(name, "Guado-") {
			s.t.Errorf("%s: the client is told %s", path, name)
		}
	}
	return got
}

// identitySite serves test/apps/identity_app.py.
func identitySite(t *testing.T, dir, kind, server, more string) *site {
	t.Helper()
	s, _ := newSite(t, "")
	load := func() (*guado.Config, error) { return guado.Load(filepath.Join(dir, "guado.toml")) }
	write(t, dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = 3\ncache_dir = \"cache\"\n%s\n"+
		"[[app]]\nname = \"who\"\ntarget = \"identity_app:%s\"\nkind = %q\ndir = %q\npython = %q\n%s",
		server, kind, kind, harness.Apps(), harness.Python(t, "newest"), more))
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	log, stdout := s.Log, s.Stdout
	s.Server = guado.NewResolved(c)
	s.Log, s.Stdout, s.Stderr, s.Load = log, stdout, stdout, load
	s.run()
	return s
}

// onBothKinds runs a test with the application as a WSGI and as an ASGI one.
func onBothKinds(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range []string{"wsgi", "asgi"} {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

func TestAnApplicationLogsItsUsersInAndOut(t *testing.T) {
	onBothKinds(t, func(t *testing.T, kind string) {
		s := identitySite(t, t.TempDir(), kind, "", "")
		c := harness.Client(t, "http1")
		nobody := s.sees(c, "/", "", "Guado-User: eve", "Guado-Connection: "+strings.Repeat("a", 22), "Guado-Exchange: 1", "Guado-Message: 1")
		if len(nobody.Fields) != 1 || nobody.Fields["guado-exchange"] == "" || nobody.cookie != "" || nobody.header.Get("Cache-Control") != "" {
			t.Errorf("nobody in particular: %+v", nobody)
		}
		guest := s.sees(c, "/touch", "")
		if !strings.HasPrefix(guest.cookie, "guado=") || len(guest.Connection) != 22 || guest.header.Get("Cache-Control") != "private" {
			t.Fatalf("%+v", guest)
		}
		if set := guest.header.Get("Set-Cookie"); !strings.HasSuffix(set, "; Path=/; HttpOnly; SameSite=Lax") {
			t.Errorf("%q", set)
		}
		if again := s.sees(c, "/touch", guest.cookie); again.Connection != guest.Connection || again.cookie != "" || again.Fields["guado-user"] != "" {
			t.Errorf("%+v", again)
		}
		in := s.sees(c, "/login?user=Zo%C3%AB", "theirs=1; "+guest.cookie)
		if in.User != "Zoë" || in.Connection != guest.Connection || in.cookie == "" || in.cookie == guest.cookie {
			t.Errorf("%+v", in)
		}
		user := s.sees(c, "/", in.cookie)
		if user.Fields["guado-user"] != "Zoë" || user.Fields["guado-connection"] != guest.Connection || user.cookie != "" {
			t.Errorf("%+v", user)
		}
		// Whoever planted the guest's cookie has nothing with it.
		if planted := s.sees(c, "/", guest.cookie); len(planted.Fields) != 1 {
			t.Errorf("%+v", planted)
		}
		if planted := s.sees(c, "/touch", guest.cookie); planted.Connection == guest.Connection || planted.cookie != "" {
			t.Errorf("%+v", planted)
		}
		out := s.sees(c, "/logout", in.cookie)
		if out.cookie == "" || out.cookie == in.cookie {
			t.Errorf("%+v", out)
		}
		for cookie, want := range map[string]int{
			in.cookie: 1, out.cookie: 2, out.cookie[:len(out.cookie)-1]: 1, out.cookie[:len(out.cookie)-43] + strings.Repeat("A", 43): 1,
		} {
			if who := s.sees(c, "/", cookie); len(who.Fields) != want || who.Fields["guado-user"] != "" {
				t.Errorf("%q: %+v", cookie, who)
			}
		}
		st := s.Status().Identity
		if st == nil || st.Made != 1 || st.Logins != 1 || st.Logouts != 1 || st.Connections != 1 || st.Guests != 1 || st.Forged != 1 || st.Stale != 3 {
			t.Errorf("%+v", st)
		}
		// Once the application has let the head go, the call and the head race to the host;
		// but a connection without its cookie is never told.
		res, body := ask(t, c, "GET", s.url+"/late", nil)
		if set := res.Header.Get("Set-Cookie"); (body == `["TooLate head_sent"]`) != (set == "") {
			t.Errorf("after the head: %q with %q", body, set)
		}
	})
}

func TestOverTLSTheCookieIsForThisHostAlone(t *testing.T) {
	cert, key := harness.Certificate(t)
	s := identitySite(t, t.TempDir(), "wsgi", fmt.Sprintf("[server.tls]\ncert = %q\nkey = %q", cert, key), "")
	for _, lane := range harness.Lanes() {
		c := harness.Client(t, lane)
		in := s.sees(c, "/login?user=ann", "")
		set := in.header.Get("Set-Cookie")
		if !strings.HasPrefix(set, "__Host-guado=") || !strings.HasSuffix(set, "; Path=/; HttpOnly; SameSite=Lax; Secure") {
			t.Errorf("%s: %q", lane, set)
		}
		if who := s.sees(c, "/", in.cookie); who.Fields["guado-user"] != "ann" {
			t.Errorf("%s: %+v", lane, who)
		}
		if who := s.sees(c, "/", strings.TrimPrefix(in.cookie, "__Host-")); who.Fields["guado-user"] != "" {
			t.Errorf("%s: without the prefix: %+v", lane, who)
		}
	}
}

func TestAGracefulStopAndAStartLogNobodyOut(t *testing.T) {
	dir := t.TempDir()
	c := harness.Client(t, "http1")
	s := identitySite(t, dir, "asgi", "", "")
	in, out := s.sees(c, "/login?user=ann", ""), s.sees(c, "/login?user=bob", "")
	gone := s.sees(c, "/logout", out.cookie)
	keys, err := os.ReadFile(filepath.Join(dir, ".guado", "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s = identitySite(t, dir, "asgi", "", "")
	if again, err := os.ReadFile(filepath.Join(dir, ".guado", "keys")); err != nil || string(again) != string(keys) {
		t.Errorf("the keys are others: %v", err)
	}
	if who := s.sees(c, "/", in.cookie); who.Fields["guado-user"] != "ann" || who.Fields["guado-connection"] != in.Connection {
		t.Errorf("%+v", who)
	}
	if who := s.sees(c, "/", out.cookie); len(who.Fields) != 1 {
		t.Errorf("who had logged out: %+v", who)
	}
	if who := s.sees(c, "/", gone.cookie); who.Fields["guado-connection"] != out.Connection {
		t.Errorf("%+v", who)
	}
}

func TestAFormNamesItsPageAndTwoPagesAreRefused(t *testing.T) {
	onBothKinds(t, func(t *testing.T, kind string) {
		s := identitySite(t, t.TempDir(), kind, "", "")
		b := s.browser()
		first, second := b.tab(`{"path":"/"}`).page, b.tab(`{"path":"/"}`).page
		const form = "Content-Type: application/x-www-form-urlencoded"
		for _, c := range []struct{ path, body, field, want string }{
			{"/", "a=1&page_id=" + first, "X-None: 1", first},
			{"/", "page_id=" + first + "%7Cp01&" + strings.Repeat("long=field&", 9000), "X-None: 1", first}, // of several chunks
			{"/?page_id=" + second, "page_id=" + second, "Guado-Page: " + second + "|p01", second},
			{"/", "page_id=7", "Guado-Page: " + second, second},
			{"/", "page_id=" + strings.Repeat("x", 22), "X-None: 1", ""},
			{"/", "page_id=" + first, "Guado-Page: " + second, "page_conflict"},
			{"/?page_id=" + first, "", "Guado-Page: " + second, "page_conflict"},
		} {
			// An ASGI application gets a long body as it comes: nobody looks into it before.
			if kind == "asgi" && len(c.body) > 32<<10 {
				c.want = ""
			}
			status, text := b.post(c.path, c.body, form, c.field)
			var got seen
			if err := json.Unmarshal([]byte(text), &got); status == 200 && err != nil {
				t.Fatal(err)
			}
			if status == 400 && strings.Contains(text, "page_conflict") {
				got.Fields = map[string]string{"guado-page": "page_conflict"}
			}
			if got.Fields["guado-page"] != c.want {
				t.Errorf("%s %.60s %s: %d %s", c.path, c.body, c.field, status, text)
			}
		}
		stranger := s.browser()
		if _, text := stranger.post("/", "page_id="+first, form, "Guado-Page: "+first); strings.Contains(text, "guado-page") {
			t.Errorf("the page of another browser: %s", text)
		}
	})
}

func TestAProxyThatIsTrustedSaysWhoTheUserIs(t *testing.T) {
	s := identitySite(t, t.TempDir(), "wsgi", "trusted_proxies = [\"127.0.0.1\"]\n[identity]\nuser = \"header:X-Remote-User\"\n", "")
	c := harness.Client(t, "http1")
	in := s.sees(c, "/touch", "", "X-Remote-User: ann")
	if in.Fields["guado-user"] != "ann" || in.cookie == "" {
		t.Fatalf("%+v", in)
	}
	if other := s.sees(c, "/", in.cookie, "X-Remote-User: bob"); other.Fields["guado-user"] != "bob" || other.cookie == "" {
		t.Errorf("%+v", other)
	}
	res, body := ask(t, c, "GET", s.url+"/", nil, "X-Remote-User", strings.Repeat("x", 300), "Accept", "application/json")
	expect(t, res, body, 400, "bad_user")
}

func TestAReloadKeepsWhoIsLoggedIn(t *testing.T) {
	dir := t.TempDir()
	s := identitySite(t, dir, "wsgi", "", "threads = 2\n")
	c := harness.Client(t, "http1")
	in := s.sees(c, "/login?user=ann", "")
	path := filepath.Join(dir, "guado.toml")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, now string) (*guado.Reload, error) {
		write(t, dir, "guado.toml", strings.Replace(string(before), old, now, 1))
		return s.Reload(t.Context())
	}
	if r, err := change("threads = 2", "threads = 3"); err != nil || len(r.Replaced) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	if who := s.sees(c, "/", in.cookie); who.Fields["guado-user"] != "ann" {
		t.Errorf("after a reload: %+v", who)
	}
	if _, err := change("name = \"who\"", "name = \"other\""); err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("the group with the state went away: %v", err)
	}
	if who := s.sees(c, "/", in.cookie); who.Fields["guado-user"] != "ann" {
		t.Errorf("%+v", who)
	}
	for _, phase := range []string{"0", "3"} { // in phase 0 she may log out, and nobody would hear of it
		r, err := change("phase = 3", "phase = "+phase)
		if pending := s.Status().Reloads.Pending; err != nil || len(pending) != 0 {
			t.Fatalf("%+v %v %v", r, err, pending)
		}
		if phase == "0" {
			if who := s.sees0(c); len(who.Fields) != 0 {
				t.Errorf("%+v", who)
			}
		} else if who := s.sees(c, "/", in.cookie); who.Fields["guado-user"] != "" {
			t.Errorf("in phase %s: %+v", phase, who)
		}
		if known := s.Status().Identity != nil; known != (phase == "3") {
			t.Errorf("in phase %s the server knows clients: %v", phase, known)
		}
	}
}

func TestInPhase0NothingIsAskedNorTold(t *testing.T) {
	s, _ := newSite(t, "")
	a := app(t, guado.WSGI("identity_app:wsgi"))
	s.Mount("/", a, func(m *guado.MountConfig) { m.Identity = true })
	s.run()
	c := harness.Client(t, "http1")
	if who := s.sees0(c); len(who.Fields) != 0 || who.cookie != "" || s.Status().Identity != nil {
		t.Errorf("%+v", who)
	}
}

// sees0 is sees without what only the identity step does.
func (s *site) sees0(c *http.Client) (got seen) {
	s.t.Helper()
	res, body := ask(s.t, c, "GET", s.url+"/", nil, "Guado-Page", strings.Repeat("a", 22))
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 {
		s.t.Fatalf("%d %s", res.StatusCode, body)
	}
	got.cookie = res.Header.Get("Set-Cookie")
	return got
}
