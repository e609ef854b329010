package guado_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// globalSite is a server with an ASGI application, which has the state, and a WSGI one of two
// workers.
func globalSite(t *testing.T, dir, transport, more string) *site {
	t.Helper()
	write(t, dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = 4\ntransport = %q\nstate_dir = \"state\"\ncache_dir = \"cache\"\n"+
		"[[app]]\nname = \"shop\"\ndir = %[2]q\npython = %[3]q\ntarget = \"global_app:asgi\"\nkind = \"asgi\"\nstate = true\n"+
		"[[app]]\nname = \"old\"\ntarget = \"global_app:wsgi\"\nkind = \"wsgi\"\nworkers = 2\nthreads = 4\ndir = %[2]q\npython = %[3]q\n"+
		"[[mount]]\npath = \"/\"\napp = \"shop\"\n[[mount]]\npath = \"/old\"\napp = \"old\"\n%[4]s", transport, harness.Apps(), harness.Python(t, "newest"), more))
	return siteOf(t, dir)
}

// globally has an application do something with the global store.
func (b *browser) globally(path string, ask ...any) any {
	b.s.t.Helper()
	asked, err := json.Marshal(ask)
	if err != nil {
		b.s.t.Fatal(err)
	}
	status, text := b.post(path, string(asked))
	var got struct {
		Result  any
		Error   []string
		Message string
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
		b.s.t.Fatalf("%v: %d %s", ask, status, text)
	}
	if got.Error != nil {
		return fmt.Sprint(got.Error[0], ": ", got.Message)
	}
	return got.Result
}

func (b *browser) wantGlobal(path string, want string, ask ...any) {
	b.s.t.Helper()
	if got := text(b.globally(path, ask...)); got != want {
		b.s.t.Errorf("%v: %s, want %s", ask, got, want)
	}
}

func TestWorkersOfTwoGroupsReadWhatOneOfThemWrites(t *testing.T) {
	for _, transport := range harness.Transports() {
		t.Run(transport, func(t *testing.T) {
			s := globalSite(t, t.TempDir(), transport, "")
			b := s.browser()
			b.wantGlobal("/", "1", "set", "cart.items", map[string]any{"tea": 2, "box": []any{1, "b"}})
			b.wantGlobal("/old", `{"box":[1,"b"],"tea":2}`, "get", "cart.items")
			b.wantGlobal("/old", `[9,9]`, "write_and_read", []any{[]any{"a", 9}, []any{"b.c", 9}})
			b.wantGlobal("/", `{"c":9}`, "get", "b")
			b.wantGlobal("/", `[5,5]`, "awaited", "d", 5)
			b.wantGlobal("/old", "3", "add", "hits", 3)
			b.wantGlobal("/", "1", "add", "hits", -2)
			b.wantGlobal("/", `"HostError: the path holds something else than a whole number"`, "add", "cart.items.box")
			b.wantGlobal("/old", "true", "compare_and_set", "hits", 1, 7)
			b.wantGlobal("/", "false", "compare_and_set", "hits", 1, 8)
			b.wantGlobal("/", "7", "setdefault", "hits", 99)
			b.wantGlobal("/", "true", "delete", "cart.items.tea")
			b.wantGlobal("/old", `["items"]`, "keys", "cart")
			var wait sync.WaitGroup
			for _, path := range []string{"/", "/old", "/old", "/old"} {
				wait.Go(func() { b.globally(path, "claim", "claimed", 50) })
			}
			wait.Wait()
			b.wantGlobal("/old", "200", "get", "claimed")
		})
	}
}
