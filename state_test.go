package guado_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// everyStore runs one body with the stores of a WSGI and of an ASGI application, over both
// transports.
func everyStore(t *testing.T, body func(t *testing.T, s *site)) {
	t.Helper()
	kinds := []string{"wsgi", "asgi"}
	for i, transport := range harness.Transports() {
		kind := kinds[i%2]
		t.Run(kind+"/"+transport, func(t *testing.T) {
			body(t, storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\n", kind)))
		})
	}
}

// storeSite serves an application with stores.
func storeSite(t *testing.T, dir, more string) *site {
	t.Helper()
	return pagesSite(t, dir, "target = \"stores_app:app\"\n"+more)
}

// do asks for something to be done in a request of a page.
func (t *tab) do(what string) string {
	t.s.t.Helper()
	status, text := t.post("/", what, "Guado-Page: "+t.page)
	if status != 200 {
		t.s.t.Errorf("%s: %d %s", what, status, text)
	}
	return strings.TrimSpace(text)
}

func (t *tab) wantDone(what, want string) {
	t.s.t.Helper()
	if got := t.do(what); got != want {
		t.s.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// kill ends the worker by kill -9, while it handles a request.
func (t *tab) kill() {
	t.s.t.Helper()
	if status, text := t.post("/", `{"die":1}`); status != 502 {
		t.s.t.Errorf("a request that kills its worker: %d %s", status, text)
	}
}

func TestWhatAClientWasToldIsThereWhenTheWorkerWasKilled(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		for i := 1; i <= 3; i++ {
			for _, of := range []string{"page", "connection"} {
				tab.wantDone(fmt.Sprintf(`{"of":%q,"set":{"x":%d,"cart.items":[{"sku":%d}]},"get":"x"}`, of, i, i), fmt.Sprint(i))
			}
			tab.kill()
			for _, of := range []string{"page", "connection"} {
				tab.wantDone(fmt.Sprintf(`{"of":%q,"get":"x"}`, of), fmt.Sprint(i))
				tab.wantDone(fmt.Sprintf(`{"of":%q,"get":"cart.items"}`, of), fmt.Sprintf(`[{"sku": %d}]`, i))
			}
		}
	})
}

var _ = os.Stat
var _ = filepath.Join
