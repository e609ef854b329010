package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/test/harness"
)

// lively is a server whose clock the test moves, and whose application does with the index
// what it is told.
type lively struct {
	t      *testing.T
	dir    string
	url    string
	client *http.Client
}

func startLively(t *testing.T, more string) *lively {
	t.Helper()
	dir := project(t, map[string]string{"guado.toml": fmt.Sprintf(
		"[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\nphase = 3\n[admin]\nclock = true\n"+
			"[[app]]\nname = \"shop\"\ntarget = \"registry_app:app\"\ndir = %q\n%s", harness.Apps(), more)})
	cmd := program(t, dir, "serve")
	cmd.Env = append(cmd.Environ(), "GUADO_TEST=1")
	l := &lively{t: t, dir: dir, url: start(t, cmd).ready().url}
	l.client = l.browser()
	return l
}

func (l *lively) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: limit}
}

func (l *lively) post(c *http.Client, path, page, body string) string {
	l.t.Helper()
	q, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if page != "" {
		q.Header.Set("Guado-Page", page)
	}
	res, err := c.Do(q)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		l.t.Fatalf("%s: %d %s %v", path, res.StatusCode, text, err)
	}
	return strings.Trim(string(text), `"`)
}

// verbs does several things with the index, at once.
func (l *lively) verbs(all ...[]any) []any {
	l.t.Helper()
	body, err := json.Marshal(all)
	if err != nil {
		l.t.Fatal(err)
	}
	var out []any
	if err := json.Unmarshal([]byte(l.post(l.client, "/", "", string(body))), &out); err != nil {
		l.t.Fatal(err)
	}
	return out
}

// passes lets time go by, which takes none.
func (l *lively) passes(d time.Duration) {
	l.t.Helper()
	if _, err := l.admin("clock", map[string]float64{"seconds": d.Seconds()}, nil); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lively) admin(path string, body, answer any) (int, error) {
	c := http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.dir, "state", "admin.sock"))
	}}}
	method, text := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		var err error
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	q, err := http.NewRequestWithContext(l.t.Context(), method, "http://guado/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	res, err := c.Do(q)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return res.StatusCode, fmt.Errorf("%s: %d %s %w", path, res.StatusCode, got, err)
	}
	if answer == nil {
		return res.StatusCode, nil
	}
	return res.StatusCode, json.Unmarshal(got, answer)
}

func (l *lively) index() guado.RegistryStatus {
	l.t.Helper()
	var st guado.Status
	if _, err := l.admin("status", nil, &st); err != nil || st.Registry == nil {
		l.t.Fatalf("%v, registry %v", err, st.Registry)
	}
	return *st.Registry
}

// there counts the pages of these that are there.
func (l *lively) there(pages ...string) int {
	l.t.Helper()
	return int(l.verbs([]any{"pages", "count", []any{}, map[string]any{"id__in": pages}})[0].(float64))
}

func TestADayOfLifeEndsWhatNobodyUsesAndNothingElse(t *testing.T) {
	l := startLively(t, "[identity]\nttl = \"2h\"\nguest_ttl = \"45m\"\n")
	// One page is kept alive by the application, which polls; one by requests that name it.
	legacy, polled, bob := identity.NewID(), identity.NewID(), l.browser()
	l.verbs(
		[]any{"connections", "create", []any{legacy}, map[string]any{"user": "ann"}},
		[]any{"pages", "create", []any{polled}, map[string]any{"connection": legacy}},
		[]any{"pages", "touch", []any{polled}},
	)
	l.post(bob, "/login", "", "bob")
	named := l.post(bob, "/page", "", "")
	l.post(bob, "/who", named, "")
	for hour := range 24 {
		robot := identity.NewID()
		l.verbs(
			[]any{"connections", "create", []any{robot}},
			[]any{"pages", "create", []any{identity.NewID()}, map[string]any{"connection": robot}},
		)
		for range 3 {
			l.passes(20 * time.Minute)
			l.post(bob, "/who", named, "")
			if got := l.verbs([]any{"pages", "touch", []any{polled}}, []any{"pages", "exists", []any{named}}); got[0] != true || got[1] != true {
				t.Fatalf("hour %d: of those that are in use: %v\n%s", hour, got, run(t, l.dir, "pages", "--ended").out)
			}
		}
	}
	evening(t, "the end of the robots", func() bool {
		l.passes(time.Minute)
		l.verbs([]any{"pages", "touch", []any{polled}})
		l.post(bob, "/who", named, "")
		st := l.index()
		return st.Pages.Now == 2 && st.Connections.Now == 2
	})
	if st := l.index(); st.Pages.Ended["unclaimed"] != 24 || st.Connections.Ended["expired"] != 24 || st.Users.Now != 2 {
		t.Errorf("after a day: %+v", st)
	}
	// In the evening all go home.
	l.passes(29 * time.Minute)
	if l.there(polled, named) != 2 {
		t.Errorf("before half an hour: %+v", l.index())
	}
	l.passes(2 * time.Minute)
	evening(t, "the end of the pages", func() bool { return l.index().Pages.Now == 0 })
	if st := l.index(); st.Connections.Now != 2 || st.Users.Now != 2 {
		t.Errorf("users have ended with their pages: %+v", st)
	}
	evening(t, "the end of the users", func() bool {
		l.passes(15 * time.Minute)
		st := l.index()
		return st.Connections.Now == 0 && st.Users.Now == 0
	})
	var all struct{ Ended []guado.Ended }
	if _, err := l.admin("ended", nil, &all); err != nil {
		t.Fatal(err)
	}
	whys := map[string]int{}
	for _, e := range all.Ended {
		whys[fmt.Sprint(e.Kind, " ", e.Why)]++
	}
	if want := map[string]int{"page unclaimed": 24, "page expired": 2, "connection expired": 26, "user expired": 2}; fmt.Sprint(whys) != fmt.Sprint(want) {
		t.Errorf("ended: %v, not %v", whys, want)
	}
}

func TestItemsAreListedAndEndedFromTheCommandLine(t *testing.T) {
	l := startLively(t, "")
	connection, page := identity.NewID(), identity.NewID()
	l.verbs(
		[]any{"connections", "create", []any{connection}, map[string]any{"user": "ann", "address": "10.1.2.3", "user_agent": "Legacy/1"}},
		[]any{"pages", "create", []any{page}, map[string]any{"connection": connection, "path": "/adm"}},
		[]any{"pages", "touch", []any{page}},
	)
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"pages"}, 0, []string{page + " ", "ann ", "/adm ", "polls "}},
		{[]string{"connections"}, 0, []string{connection + " ", "ann ", "10.1.2.3 ", "Legacy/1"}},
		{[]string{"users"}, 0, []string{"ann "}},
		{[]string{"users", "--json"}, 0, []string{`"user": "ann"`, `"pages": 1`}},
		{[]string{"users", "--ended"}, 0, []string{"none has ended"}},
		{[]string{"users", "end", "nobody"}, 1, []string{"there is no user nobody"}},
		{[]string{"users", "end", "ann"}, 0, nil},
		{[]string{"users"}, 0, []string{"nobody is logged in"}},
		{[]string{"users", "--ended"}, 0, []string{"ann ", "dropped"}},
		{[]string{"pages", "--ended"}, 0, []string{page + " ", "above", connection}},
		{[]string{"connections", "--ended", "--json"}, 0, []string{`"why": "dropped"`, connection}},
		{[]string{"pages", "end", page}, 1, []string{"there is no page " + page + ": it ended ", "(above)"}},
	} {
		r := run(t, l.dir, c.args...)
		if r.code != c.code {
			t.Errorf("%v: code %d: %s%s", c.args, r.code, r.out, r.err)
		}
		for _, want := range c.says {
			if !strings.Contains(r.out+r.err, want) {
				t.Errorf("%v: no %q in %s%s", c.args, want, r.out, r.err)
			}
		}
	}
}

func TestOnlyATestMovesTheClock(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello, "guado.toml": "[admin]\nclock = true\n[[app]]\ntarget = \"hello\"\n"})
	if r := run(t, dir, "check"); r.code != exitUsage || !strings.Contains(r.out+r.err, "admin.clock") {
		t.Errorf("%+v", r)
	}
}

func TestUsersWhoHaveLoggedOutAreNamedApart(t *testing.T) {
	now := time.Now()
	user := func(name string, browsers int) (u guado.UserStatus) {
		u.Name, u.Connections, u.Since, u.Seen = name, browsers, now, now
		return u
	}
	all := []guado.UserStatus{user("ann", 2), user("bert", 0), user("carl", 0)}
	const gone = "logged out, and remembered for a while: bert, carl\n"
	if got, want := usersText(all, now), "USER  FLAG  BROWSERS  PAGES  SINCE  SEEN  STORE\nann   -     2         0      0s     0s    -\n"+gone; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := usersText(all[1:], now), "nobody is logged in\n"+gone; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i := range 30 {
		all = append(all, user(fmt.Sprint("u", i), 0))
	}
	if got := usersText(all, now); !strings.HasSuffix(got, ", u17 and 12 more\n") {
		t.Errorf("of many: %s", got)
	}
}
