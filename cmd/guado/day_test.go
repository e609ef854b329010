package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// stores is how the stores of the server are.
func (l *lively) stores() guado.StoresStatus {
	l.t.Helper()
	var st guado.Status
	if _, err := l.admin("status", nil, &st); err != nil || st.Stores == nil {
		l.t.Fatalf("%v, stores %v", err, st.Stores)
	}
	return *st.Stores
}

// evening waits for what comes of a whole day: it takes dozens of turns of the clock, each with
// requests, which a machine with other work does slowly.
func evening(t *testing.T, what string, done func() bool) {
	t.Helper()
	harness.Eventually(t, what, 4*limit, done)
}

// TestADayOfLifeLeavesNothingInStores lets guests come, write to all their stores and go, and
// one user stay, for a day.
func TestADayOfLifeLeavesNothingInStores(t *testing.T) {
	dir := project(t, map[string]string{"guado.toml": fmt.Sprintf(
		"[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\nphase = 5\n[admin]\nclock = true\n[identity]\nttl = \"2h\"\nguest_ttl = \"45m\"\n"+
			"[[app]]\nname = \"shop\"\ntarget = \"stores_app:app\"\nkind = \"wsgi\"\ndir = %q\n", harness.Apps())})
	cmd := program(t, dir, "serve")
	cmd.Env = append(cmd.Environ(), "GUADO_TEST=1", "TEST_KIND=wsgi")
	l := &lively{t: t, dir: dir, url: start(t, cmd).ready().url}
	opens := func(c *http.Client, class string) string {
		_, page, _ := strings.Cut(l.post(c, "/_guado/page", "", fmt.Sprintf(`{"path":"/","class":%q}`, class)), `"page":"`)
		page, _, _ = strings.Cut(page, `"`)
		return page
	}
	ann := l.browser()
	mine := opens(ann, "")
	l.post(ann, "/", mine, `{"login":"ann"}`)
	for hour := range 24 {
		for range 2 {
			guest := l.browser()
			page := opens(guest, "Cart")
			for _, of := range []string{"page", "connection", ""} {
				l.post(guest, "/", page, fmt.Sprintf(`{"of":%q,"set":{"hour":%d,"cart.items":[1,{"sku":7}]}}`, of, hour))
			}
			l.post(guest, "/_guado/page/"+page+"/x", "", `1`) // its object, too
		}
		for part := range 3 {
			l.passes(20 * time.Minute)
			for _, of := range []string{"page", "connection", "ann"} {
				if got, want := l.post(ann, "/", mine, fmt.Sprintf(`{"of":%q,"add":"n"}`, of)), fmt.Sprint(3*hour+part+1); got != want {
					t.Fatalf("hour %d: the store of %s counted %s, not %s", hour, of, got, want)
				}
			}
		}
	}
	evening(t, "the end of the guests' stores", func() bool {
		l.passes(time.Minute)
		l.post(ann, "/", mine, `{"get":"n"}`)
		return l.stores().Stores == 3
	})
	if got := l.post(ann, "/", mine, `{"get":"n","held":1}`); got != "3" {
		t.Errorf("the worker has %s stores", got)
	}
	// Beside ann there is the guest who she was: requests of before the login may be late.
	if st := l.stores(); st.Users != 2 || st.Stale != 0 || st.Bytes == 0 {
		t.Errorf("in the evening: %+v", st)
	}
	evening(t, "the end of all", func() bool {
		l.passes(20 * time.Minute)
		st := l.stores()
		return st.Users == 0 && st.Stores == 0 && st.Bytes == 0
	})
	stranger := l.browser()
	if got := l.post(stranger, "/", opens(stranger, ""), `{"get":"n","held":1}`); got != "1" {
		t.Errorf("the worker has %s stores beside the stranger's", got)
	}
}
