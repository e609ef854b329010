package guado_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/identity"
)

// indexed is a server whose application does with the index what a test says.
type indexed struct {
	*site
	t *testing.T
	b *browser
}

func index(t *testing.T, dir, more string) *indexed {
	t.Helper()
	s := pagesSite(t, dir, "target = \"registry_app:app\"\n"+more)
	return &indexed{s, t, s.browser()}
}

// told is what an application says of an item, and item what it gets.
type (
	told map[string]any
	item = map[string]any
)

// ask runs one verb.
func (i *indexed) ask(kind, verb string, args []any, more told) any {
	i.t.Helper()
	if args == nil {
		args = []any{}
	}
	body, err := json.Marshal([]any{[]any{kind, verb, args, more}})
	if err != nil {
		i.t.Fatal(err)
	}
	status, text := i.b.post("/", string(body))
	var out []any
	if err := json.Unmarshal([]byte(text), &out); err != nil || status != 200 || len(out) != 1 {
		i.t.Fatalf("%s.%s%v: %d %s", kind, verb, args, status, text)
	}
	return out[0]
}

// makes an item that there is not yet.
func (i *indexed) makes(kind, id string, more told) item {
	i.t.Helper()
	out, is := i.ask(kind, "create", []any{id}, more).(item)
	if !is || out["id"] != id {
		i.t.Fatalf("create %s %s: %v", kind, id, out)
	}
	return out
}

func (i *indexed) there(kind, id string) bool {
	i.t.Helper()
	return i.ask(kind, "exists", []any{id}, nil) == true
}

func TestAnApplicationKeepsItemsWithIdsOfItsOwn(t *testing.T) {
	i := index(t, t.TempDir(), "")
	connection, page := identity.NewID(), identity.NewID()
	i.makes("connections", connection, told{"user": "guest_1", "address": "10.1.2.3", "user_agent": "Legacy/1", "fields": item{"name": "x"}})
	p := i.makes("pages", page, told{"connection": connection, "fields": item{"pagename": "adm/users", "n": 7}})
	if p["user"] != "guest_1" || p["connection"] != connection || p["claimed"] != false || fmt.Sprint(p["fields"]) != "map[n:7 pagename:adm/users]" {
		t.Errorf("the page is %v", p)
	}
	c := i.ask("connections", "get", []any{connection}, nil).(item)
	if c["address"] != "10.1.2.3" || c["user_agent"] != "Legacy/1" || c["pages"] != 1.0 {
		t.Errorf("the connection is %v", c)
	}
	if u := i.ask("users", "get", []any{"guest_1"}, nil).(item); u["connections"] != 1.0 || u["pages"] != 1.0 {
		t.Errorf("the user is %v", u)
	}
	// Who logs in is another user, with the same connection and pages.
	i.ask("connections", "update", []any{connection}, told{"user": "ann", "fields": item{"name": nil, "tags": "a,b"}})
	p = i.ask("pages", "update", []any{page}, told{"fields": item{"n": 8}}).(item)
	if p["user"] != "ann" || fmt.Sprint(p["fields"]) != "map[n:8 pagename:adm/users]" {
		t.Errorf("after the login the page is %v", p)
	}
	if u := i.ask("users", "get", []any{"guest_1"}, nil).(item); u["connections"] != 0.0 {
		t.Errorf("the guest's user is %v", u)
	}
	if i.ask("users", "drop", []any{"guest_1"}, nil) != 1.0 || i.there("users", "guest_1") {
		t.Error("the guest's user stays")
	}
	if got := i.ask("pages", "touch", []any{page}, nil); got != true {
		t.Errorf("touch: %v", got)
	}
	if p := i.ask("pages", "get", []any{page}, nil).(item); p["claimed"] != true {
		t.Errorf("after its second contact it is %v", p)
	}
	// Without cascade what it belongs to stays.
	other := identity.NewID()
	i.makes("pages", other, told{"connection": connection})
	if i.ask("pages", "drop", []any{other}, nil) != 1.0 || !i.there("connections", connection) {
		t.Error("a page was dropped, and not alone")
	}
	if got := i.ask("pages", "drop", []any{page}, told{"cascade": true}); got != 2.0 || i.there("connections", connection) || !i.there("users", "ann") {
		t.Errorf("the last page was dropped with cascade: %v", got)
	}
	if got := i.ask("pages", "drop", []any{page}, nil); got != 0.0 {
		t.Errorf("dropped again: %v", got)
	}
}

func TestTheIndexSaysWhatIsWrong(t *testing.T) {
	i := index(t, t.TempDir(), "")
	connection, page := identity.NewID(), identity.NewID()
	i.makes("connections", connection, nil)
	i.makes("pages", page, told{"connection": connection})
	status, text := i.b.post("/who", "")
	known := strings.Trim(text, `"`)
	if status != 200 || len(known) != 22 {
		t.Fatalf("%d %s", status, text)
	}
	for _, c := range []struct {
		kind, verb string
		args       []any
		more       told
		want       string
	}{
		{"pages", "create", []any{page}, told{"connection": connection}, "exists HostError"},
		{"pages", "create", []any{"short"}, told{"connection": connection}, "bad_id HostError"},
		{"pages", "create", nil, told{"connection": identity.NewID()}, "no_connection NoItem"},
		{"pages", "create", nil, told{"connection": connection, "user": "bob"}, "fixed HostError"},
		{"connections", "create", []any{connection}, nil, "exists HostError"},
		{"connections", "create", nil, told{"user": " ann"}, "bad_user HostError"},
		{"connections", "create", nil, told{"address": "here"}, "bad_fields HostError"},
		{"connections", "create", nil, told{"fields": item{"x": strings.Repeat("x", 17<<10)}}, "bad_fields HostError"},
		{"users", "create", nil, nil, "bad_user HostError"},
		{"users", "update", []any{"nobody"}, told{"fields": item{"x": 1}}, "no_item NoItem"},
		{"pages", "update", []any{identity.NewID()}, told{"fields": item{"x": 1}}, "no_item NoItem"},
		{"pages", "update", []any{page}, told{"user": "bob"}, "fixed HostError"},
		{"connections", "update", []any{known}, told{"user": "bob"}, "has_cookie HostError"},
		{"pages", "list", nil, told{"path__matches": "("}, "bad_call HostError"},
	} {
		got, is := i.ask(c.kind, c.verb, c.args, c.more).(item)
		if !is || fmt.Sprint(got["error"], " ", got["class"]) != c.want {
			t.Errorf("%s.%s%v %v: %v, not %s", c.kind, c.verb, c.args, c.more, got, c.want)
		}
	}
	if got := i.ask("pages", "get", []any{"none"}, nil); got != nil {
		t.Errorf("a page that there is not: %v", got)
	}
}

func TestBrowsersAndTheApplicationsOwnItemsAreListedTogether(t *testing.T) {
	i := index(t, t.TempDir(), "")
	connection := identity.NewID()
	i.makes("connections", connection, told{"user": "ann", "fields": item{"from": "elsewhere"}})
	own := identity.NewID()
	i.makes("pages", own, told{"connection": connection, "path": "/legacy"})
	if status, text := i.b.post("/login", "ann"); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	_, text := i.b.post("/page", "")
	opened := strings.Trim(text, `"`)
	for _, c := range []struct {
		kind string
		more told
		want int
	}{
		{"pages", nil, 2},
		{"pages", told{"user": "ann"}, 2},
		{"pages", told{"user": nil}, 0},
		{"pages", told{"connection": connection}, 1},
		{"pages", told{"path__prefix": "/leg"}, 1},
		{"pages", told{"id__in": []string{own, opened, "none"}}, 2},
		{"pages", told{"connected": true}, 0},
		{"pages", told{"started__max": "2020-01-01T00:00:00Z"}, 0},
		{"pages", told{"started__min": "2020-01-01T00:00:00Z"}, 2},
		{"connections", told{"user": "ann"}, 2},
		{"connections", told{"from__matches": "^else"}, 1},
		{"connections", told{"from": nil}, 1},
		{"users", told{"connections__min": 2}, 1},
		{"users", told{"id": "bob"}, 0},
	} {
		list := i.ask(c.kind, "list", nil, c.more).([]any)
		if n := i.ask(c.kind, "count", nil, c.more); len(list) != c.want || n != float64(c.want) {
			t.Errorf("%s %v: %v, counted %v, not %d", c.kind, c.more, list, n, c.want)
		}
	}
	// A page that a browser opened ends as any other one.
	if i.ask("users", "drop", []any{"ann"}, nil) != 5.0 {
		t.Error("not all of a user's items have ended")
	}
	if st := i.Status(); st.Push.Pages != 0 || st.Identity.Connections != 0 {
		t.Errorf("left: %+v %+v", st.Push, st.Identity)
	}
}

func TestABeaconEndsTheTabThatSendsItAndNoOther(t *testing.T) {
	i := index(t, t.TempDir(), "")
	_, text := i.b.post("/page", "")
	page := strings.Trim(text, `"`)
	other := i.browser()
	if _, text := other.post("/who", ""); len(text) == 0 {
		t.Fatal("no connection")
	}
	for _, c := range []struct {
		b      *browser
		path   string
		fields []string
		status int
		there  bool
	}{
		{other, "/_guado/beacon?page_id=" + page, nil, 204, true},
		{i.browser(), "/_guado/beacon?page_id=" + page, nil, 204, true},
		{i.b, "/_guado/beacon?page_id=" + page, []string{"Origin: https://elsewhere.example"}, 403, true},
		{i.b, "/_guado/beacon", nil, 400, true},
		{i.b, "/_guado/beacon?page_id=" + page + "%7Cp01", nil, 204, false},
		{i.b, "/_guado/beacon?page_id=" + page, nil, 204, false},
	} {
		if status, _ := c.b.post(c.path, "", c.fields...); status != c.status {
			t.Errorf("%s %q: %d, not %d", c.path, c.fields, status, c.status)
		}
		if got := i.there("pages", page); got != c.there {
			t.Errorf("after %s %q the page is there: %v", c.path, c.fields, got)
		}
	}
	if st := i.Status().Registry.Pages; st.Ended["closed"] != 1 {
		t.Errorf("%+v", st)
	}
}
