package guado_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

func htpasswd(t *testing.T, dir string, pairs ...string) string {
	t.Helper()
	text := "# people\n"
	for i := 0; i < len(pairs); i += 2 {
		hash, err := bcrypt.GenerateFromPassword([]byte(pairs[i+1]), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text += pairs[i] + ":" + string(hash) + "\n"
	}
	return write(t, dir, "htpasswd", text)
}

func TestAMountMayAskForAPassword(t *testing.T) {
	onEachLane(t, func(s *site, c *guado.Config) {
		c.Server.TrustedProxies = []string{"127.0.0.1"}
		file := htpasswd(t, t.TempDir(), "anna", "sesame: open", "bruno", "città")
		seen := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "saw %q", r.Header.Get("Authorization"))
		})
		s.Mount("/", seen, func(m *guado.MountConfig) { m.BasicAuth, m.BasicAuthRealm = file, `say "friend"` })
		s.Mount("/strip", seen, func(m *guado.MountConfig) { m.BasicAuth, m.BasicAuthStrip = file, true })
		s.Mount("/any", seen, func(m *guado.MountConfig) {
			m.BasicAuth, m.Satisfy, m.Allow = file, "any", []string{"10.0.0.0/8"}
		})
		s.Mount("/all", seen, func(m *guado.MountConfig) { m.BasicAuth, m.Allow = file, []string{"10.0.0.0/8"} })
	}, func(t *testing.T, s *site, c *http.Client) {
		const right = "Basic YW5uYTpzZXNhbWU6IG9wZW4=" // anna:sesame: open
		res, body := ask(t, c, "GET", s.url+"/", nil)
		expect(t, res, body, 401, "password_required")
		if got := res.Header.Get("WWW-Authenticate"); got != `Basic realm="say \"friend\"", charset="UTF-8"` {
			t.Errorf("WWW-Authenticate: %s", got)
		}
		for _, wrong := range []string{
			"Basic YW5uYTpzZXNhbWU=",             // another password
			"Basic YW5uYTpjaXR0w6A=",             // the password of somebody else
			"Basic bm9ib2R5OnNlc2FtZTogb3Blbg==", // a name that nobody has
			"Basic YW5uYTo=", "Basic Og==",       // empty
		} {
			res, body = ask(t, c, "GET", s.url+"/", nil, "Authorization", wrong)
			expect(t, res, body, 401, "password_wrong")
		}
		for _, none := range []string{"Basic", "Basic !!!", "Basic YW5uYQ==", "Bearer YW5uYTpzZXNhbWU6IG9wZW4="} {
			res, body = ask(t, c, "GET", s.url+"/", nil, "Authorization", none)
			expect(t, res, body, 401, "password_required")
		}
		res, body = ask(t, c, "GET", s.url+"/", nil, "Authorization", right, "Authorization", "Basic Og==")
		expect(t, res, body, 401, "password_required") // two could be read in two ways
		for range 2 {                                  // the second time it is remembered
			res, body = ask(t, c, "GET", s.url+"/", nil, "Authorization", right)
			expect(t, res, body, 200, "saw \""+right)
		}
		res, body = ask(t, c, "GET", s.url+"/", nil, "Authorization", "basic  YnJ1bm86Y2l0dMOg")
		expect(t, res, body, 200, "saw")
		res, body = ask(t, c, "GET", s.url+"/strip", nil, "Authorization", right)
		expect(t, res, body, 200, `saw ""`)

		res, body = ask(t, c, "GET", s.url+"/any", nil, "X-Forwarded-For", "10.0.0.1")
		expect(t, res, body, 200, `saw ""`)
		res, body = ask(t, c, "GET", s.url+"/any", nil, "X-Forwarded-For", "192.0.2.1")
		expect(t, res, body, 401, "password_required")
		res, body = ask(t, c, "GET", s.url+"/any", nil, "X-Forwarded-For", "192.0.2.1", "Authorization", right)
		expect(t, res, body, 200, "saw")
		res, body = ask(t, c, "GET", s.url+"/all", nil, "X-Forwarded-For", "10.0.0.1")
		expect(t, res, body, 401, "password_required")
		res, body = ask(t, c, "GET", s.url+"/all", nil, "X-Forwarded-For", "192.0.2.1", "Authorization", right)
		expect(t, res, body, 403, "address_not_allowed")
	})
}

func TestThePasswordFileIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	file := htpasswd(t, dir, "anna", "old")
	s, _ := newSite(t, "")
	s.Mount("/", says("in"), func(m *guado.MountConfig) { m.BasicAuth = file })
	s.run()
	c := harness.Client(t, "http1")
	try := func(password string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("anna", password)
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if got := try("old"); got != 200 {
		t.Fatalf("before: %d", got)
	}
	// Half a file changes nothing, and is told.
	write(t, dir, "htpasswd", "anna:$2y$05$half")
	for deadline := time.Now().Add(patience); !strings.Contains(s.log.String(), "the users of before stay"); {
		if got := try("old"); got != 200 || time.Now().After(deadline) {
			t.Fatalf("with half a file: %d\n%s", got, s.log.String())
		}
	}
	htpasswd(t, dir, "anna", "new", "bruno", "x")
	for deadline := time.Now().Add(patience); try("new") != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the new password is not taken")
		}
	}
	if got := try("old"); got != 401 {
		t.Errorf("the old password, which was remembered: %d", got)
	}
}

func TestAPasswordFileThatCannotBeUsedStopsTheStart(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "names no user",
		"anna\n":                                 "line 1 is not NAME:HASH",
		"# people\nanna:$apr1$x$y\n":             "line 2: the hash of \"anna\" is not bcrypt's; make it with: htpasswd -B",
		"anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=": "htpasswd -B",
	} {
		s, _ := newSite(t, "")
		file := write(t, t.TempDir(), "htpasswd", text)
		s.Mount("/", says("in"), func(m *guado.MountConfig) { m.BasicAuth = file })
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
