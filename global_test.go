package guado_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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

func TestAnEventNeverComesBeforeTheWriteThatItTellsOf(t *testing.T) {
	s := globalSite(t, t.TempDir(), "auto", "")
	b := s.browser()
	const events = 300
	var numbers []any
	for n := range events {
		numbers = append(numbers, n)
	}
	b.globally("/old", "publish_after", "tick", "tick", numbers)
	eventually(t, "all events are heard", func() bool { return len(b.globally("/", "heard").([]any)) == events })
	for n, pair := range b.globally("/", "heard").([]any) {
		both := pair.([]any)
		if told, read := both[0].(float64), both[1]; told != float64(n) || read == nil || read.(float64) < told {
			t.Fatalf("event %d told of %v, and the store had %v", n, told, read)
		}
	}
}

func TestAWorkerThatStartsAnewHasTheWholeGlobalStoreAndSoHasTheNextServer(t *testing.T) {
	dir := t.TempDir()
	s := globalSite(t, dir, "auto", "")
	b := s.browser()
	large := strings.Repeat("x", 700_000)
	b.wantGlobal("/", "1", "set", "large", large)
	b.wantGlobal("/", "2", "set", "small", map[string]any{"a": 1})
	b.wantGlobal("/", "3", "set", "short", 1, 0.02)
	for _, g := range s.Status().Groups {
		for _, w := range g.Workers {
			if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	ready := func() {
		s.eventually("the workers are there again", func() bool {
			for _, g := range s.Status().Groups {
				for _, w := range g.Workers {
					if w.State != "serving" {
						return false
					}
				}
			}
			return s.Status().Global.Replicas == 3
		})
	}
	ready()
	for _, path := range []string{"/", "/old"} {
		if got := b.globally(path, "get", "large"); got != large {
			t.Errorf("%s: %.100v", path, got)
		}
		b.wantGlobal(path, `{"a":1}`, "get", "small")
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s = siteOf(t, dir)
	b = s.browser()
	for _, path := range []string{"/", "/old"} {
		b.wantGlobal(path, `["large","small"]`, "keys")
	}
	b.wantGlobal("/old", "5", "set", "next", 1) // the third was the end of "short"
}

func TestALimitOfTheGlobalStoreRaisesAtTheWrite(t *testing.T) {
	s := globalSite(t, t.TempDir(), "auto", "[global]\nlimit = \"64KiB\"\nvalue = \"40KiB\"\n")
	b := s.browser()
	half := strings.Repeat("x", 39_000)
	b.wantGlobal("/old", "1", "set", "half", half)
	for _, c := range []struct{ value, want string }{
		{half, "GlobalFull: the global store is full (global.limit): it has 39038 bytes, and this needs 39037 more"},
		{half + half, "GlobalFull: the value is larger than one of the global store may be (global.value): it has 78002 bytes"},
	} {
		if got := b.globally("/old", "set", "one", c.value); got != c.want {
			t.Errorf("%.200v", got)
		}
	}
	b.wantGlobal("/old", "1", "len")
	b.wantGlobal("/", "2", "set", "one", "small")
}

func TestExecutorsAndProgramsHaveTheGlobalStoreToo(t *testing.T) {
	dir := t.TempDir()
	file, result := filepath.Join(harness.Apps(), "global_task.py"), filepath.Join(dir, "result")
	s := globalSite(t, dir, "auto", "[[executor]]\nname = \"cpu\"\ngroup = \"old\"\nprocesses = 1\n"+
		fmt.Sprintf("[[program]]\nname = \"beside\"\ngroup = \"shop\"\nrestart = \"never\"\ncommand = [\"python\", %q, %q, \"go\"]\ndir = %q\n", file, result, dir))
	b := s.browser()
	page := b.tab(`{"path":"/old"}`)
	b.wantGlobal("/old", "null", "subscribe_table", page.page, "job")
	b.wantGlobal("/", "1", "set", "from worker", "tea")
	b.wantGlobal("/old", `[7,7,"tea"]`, "execute", 7)
	page.wantTold(`{"data":{"changes":[{"action":"insert","key":7}],"table":"job"},"topic":"dbevent.job"}`)
	write(t, dir, "go", "")
	page.wantTold(`{"data":{"changes":[{"action":"delete","key":1,"reason":"program"},{"action":"delete","key":2,"reason":"program"}],"table":"job"},"topic":"dbevent.job"}`)
	const want = `[{'a.b': {'list': [1, (2, 3)]}}, False, 'tea', ['from worker', 'beside', 'program'], 'no_replica']`
	s.eventually("the program has its result", func() bool {
		text, err := os.ReadFile(result)
		return err == nil && string(text) == want
	})
	b.wantGlobal("/old", `{"a.b":{"list":[1,[2,3]]}}`, "get", "program")
}

func TestPagesHearOfTheRowsThatOtherGroupsCommit(t *testing.T) {
	s := globalSite(t, t.TempDir(), "auto", "[events]\ntable_interval = \"0\"\n")
	b := s.browser()
	rows := b.tab(`{"path":"/","class":"Rows"}`)
	if got := rows.ask("5", ""); got != "told" {
		t.Fatalf("%v", got)
	}
	rows.wantTold(fmt.Sprintf(`["dbevent.invoice",{"changes":[{"action":"update","key":5,"page":%q}],"table":"invoice"}]`, rows.page))
	b.wantGlobal("/old", "null", "dbevent", "invoice", "insert", []any{7, 8}, []any{map[string]any{"total": "3.50"}, nil})
	rows.wantTold(`["dbevent.invoice",{"changes":[{"action":"insert","key":7,"row":{"total":"3.50"}},{"action":"insert","key":8}],"table":"invoice"}]`)
	b.wantGlobal("/old", "null", "dbevents", []any{"order", "insert", 1}, []any{"invoice", "insert", 9}, []any{"invoice", "delete", 9})
	rows.wantTold(`["dbevent.invoice",{"changes":[{"action":"delete","key":9}],"table":"invoice"}]`)
	b.wantGlobal("/old", "null", "dbevent", "invoice")
	rows.wantTold(`["dbevent.invoice",{"all":true,"changes":[],"table":"invoice"}]`)
	b.wantGlobal("/old", `"ValueError: the action is insert, update or delete, not 'drop'"`, "dbevent", "invoice", "drop", 1)
	if st := s.Status().Events.Tables; st.Published != 5 || st.Changes != 6 || st.Merged != 1 {
		t.Errorf("%+v", st)
	}
}
