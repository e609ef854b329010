package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// adapted is an application that uses an adapter, and a browser before it.
type adapted struct {
	t      *testing.T
	server *harness.Server
	client *http.Client
}

// everyAdapter runs one story over each of the frameworks, or over one of them.
func everyAdapter(t *testing.T, only string, body func(t *testing.T, a *adapted)) {
	t.Helper()
	for target, kind := range map[string]string{
		"adapter_flask:app": "wsgi", "adapter_fastapi:app": "asgi",
		"adapter_django:application": "wsgi", "adapter_django:asgi": "asgi",
	} {
		if !strings.Contains(target, only) {
			continue
		}
		t.Run(target, func(t *testing.T) {
			dir := t.TempDir()
			server := harness.Start(t, harness.Options{Config: fmt.Sprintf(`[server]
listen = ["127.0.0.1:0"]
phase = 4
state_dir = %q

[[app]]
name = "site"
target = %q
kind = %q
dir = %q
python = %q
`, dir, target, kind, harness.Apps(), harness.Python(t, "newest")), Env: []string{"ADAPTER_DATA=" + dir}})
			body(t, (&adapted{t: t, server: server}).another())
		})
	}
}

// another is another browser.
func (a *adapted) another() *adapted {
	jar, err := cookiejar.New(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &adapted{a.t, a.server, client}
}

func (a *adapted) cookie(name string) string {
	where, err := url.Parse(a.server.URL)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range a.client.Jar.Cookies(where) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// ask sends a request, as a page when one is given, and wants a status.
func (a *adapted) ask(method, path, page string, form url.Values, status int) string {
	a.t.Helper()
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := request(a.t, method, a.server.URL+path, body)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if page != "" {
		r.Header.Set("Guado-Page", page)
	}
	res, text := do(a.t, a.client, r)
	if res.StatusCode != status && (status != 0 || res.StatusCode >= 400) {
		a.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
	}
	return text
}

// answers compares the JSON of an answer.
func (a *adapted) answers(method, path, page, want string) {
	a.t.Helper()
	var got, wanted any
	text := a.ask(method, path, page, nil, 200)
	if err := errors.Join(json.Unmarshal([]byte(text), &got), json.Unmarshal([]byte(want), &wanted)); err != nil {
		a.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		a.t.Fatalf("%s %s: %s, not %s", method, path, text, want)
	}
}

const nobody = `{"user": null, "page": null, "template": "nobody"}`

func TestAdaptersTellPagesAndUsersOfRequests(t *testing.T) {
	everyAdapter(t, "", func(_ *testing.T, a *adapted) {
		a.answers("GET", "/who", "", nobody)
		if got := a.cookie("guado"); got != "" {
			a.t.Errorf("who only looked has the cookie %s", got)
		}
		a.ask("POST", "/page", "", nil, 400)
		page := a.ask("GET", "/open", "", nil, 200)
		a.answers("POST", "/page", page, `{"told": 1, "times": 1}`)
		guest := a.cookie("guado")
		a.ask("POST", "/login", "", url.Values{"user": {"ada"}}, 0)
		if now := a.cookie("guado"); now == guest || now == "" {
			a.t.Errorf("the cookie of the guest is %q, after the login %q", guest, now)
		}
		a.answers("GET", "/who", page, fmt.Sprintf(`{"user": "ada", "page": %q, "template": "ada"}`, page))
		a.answers("POST", "/private", page, `{"told": 1}`)
		a.answers("POST", "/page", page, `{"told": 1, "times": 2}`)
		other := a.another()
		other.answers("GET", "/who", page, nobody)
		a.ask("POST", "/logout", "", nil, 0)
		a.answers("GET", "/who", page, nobody)
		a.ask("POST", "/page", page, nil, 400)
	})
}

func TestSessionsOfAdaptersSurviveTheirWorker(t *testing.T) {
	everyAdapter(t, "", func(t *testing.T, a *adapted) {
		other, django := a.another(), strings.Contains(t.Name(), "django")
		if django { // its cache is in the host
			a.answers("GET", "/hits", "", `{"hits": 1}`)
		}
		for n := 1; n <= 3; n++ {
			a.answers("POST", "/count", "", fmt.Sprintf(`{"visits": %d}`, n))
		}
		other.answers("POST", "/count", "", `{"visits": 1}`)
		for _, pid := range a.server.Workers() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !os.IsNotExist(err) {
				a.t.Fatal(err)
			}
		}
		a.answers("POST", "/count", "", `{"visits": 4}`)
		if django {
			a.answers("GET", "/hits", "", `{"hits": 2}`)
		}
		other.answers("POST", "/count", "", `{"visits": 2}`)
		a.ask("POST", "/login", "", url.Values{"user": {"ada"}}, 0)
		a.answers("POST", "/count", "", `{"visits": 5}`)
		a.answers("GET", "/who", "", `{"user": "ada", "page": null, "template": "ada"}`)
		a.answers("POST", "/forget", "", `{"visits": 0}`)
		a.answers("POST", "/count", "", `{"visits": 1}`)
	})
}

func TestChangesOfDjangosModelsAreHeardOfWhenTheyHaveCommitted(t *testing.T) {
	everyAdapter(t, "django", func(t *testing.T, a *adapted) {
		for _, form := range []url.Values{{"name": {"a"}, "fail": {"all"}}, {"name": {"b"}, "fail": {"inner"}}, {"name": {"c"}}} {
			a.ask("POST", "/group", "", form, 200)
		}
		const want = `{"heard": [["insert", "b"], ["insert", "c"], ["insert", "c-inner"]]}`
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got := a.ask("GET", "/heard", "", nil, 200)
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("heard: %s, not %s", got, want)
			}
		}
	})
}

func TestARequestThatWasSentBeforeTheLoginIsAGuests(t *testing.T) {
	everyAdapter(t, "", func(t *testing.T, a *adapted) {
		a.answers("POST", "/count", "", `{"visits": 1}`)
		where, err := url.Parse(a.server.URL)
		if err != nil {
			t.Fatal(err)
		}
		before := a.client.Jar.Cookies(where)
		a.ask("POST", "/login", "", url.Values{"user": {"ada"}}, 0)
		late := a.another()
		late.client.Jar.SetCookies(where, before)
		late.answers("GET", "/who", "", nobody)
		// What it has is kept nowhere. Django refuses that itself, before it sets a cookie.
		if strings.Contains(t.Name(), "django") {
			late.ask("POST", "/count", "", nil, 400)
		} else {
			late.answers("POST", "/count", "", `{"visits": 1}`)
		}
		a.answers("POST", "/count", "", `{"visits": 2}`)
		// The same from a browser whose session of Django is the new one already.
		late.client.Jar.SetCookies(where, slices.DeleteFunc(a.client.Jar.Cookies(where), func(c *http.Cookie) bool { return c.Name == "guado" }))
		late.client.Jar.SetCookies(where, before[:1])
		late.ask("GET", "/who", "", nil, 200)
	})
}
