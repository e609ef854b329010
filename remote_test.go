package guado_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

func TestAnApplicationOfAnotherGroupReadsAndWritesStoresThroughTheWorkerThatHasThem(t *testing.T) {
	for _, transport := range harness.Transports() {
		t.Run(transport, func(t *testing.T) {
			s := globalSite(t, t.TempDir(), transport, "")
			b := s.browser()
			page := b.tab(`{"path":"/"}`).page
			here := func(want string, ask ...any) {
				b.wantGlobal("/", want, append([]any{"store", "page", page}, ask...)...)
			}
			there := func(want string, ask ...any) {
				b.wantGlobal("/old", want, append([]any{"store", "page", page}, ask...)...)
			}
			there(`"\u003cstore of page `+page+`, of another group\u003e"`, "__repr__")
			there(`{}`, "get", "nothing", map[string]any{})
			here(`"None"`, "set", "cart", map[string]any{"items": []any{1}, "a.b": 1})
			there(`{"a.b":1,"items":[1]}`, "[]", "cart") // the host's copy has it when it is answered
			there(`"None"`, "append", "cart.items", map[string]any{"sku": 7})
			there(`"None"`, "set", "cart.note", "tea")
			here(`{"a.b":1,"items":[1,{"sku":7}],"note":"tea"}`, "[]", "cart")
			there(`"tea"`, "pop", "cart.note")
			there(`5`, "setdefault", "n", 5)
			there(`5`, "setdefault", "n", 6)
			there(`"None"`, "update", map[string]any{"x": 1, "y": map[string]any{"z": 2}})
			there(`{"z":2}`, "[]", "y")
			there(`4`, "__len__")
			there(`7`, "add", "n", 2)
			there(`5`, "add", "n", -2)
			there(`false`, "compare_and_set", "y", map[string]any{"z": 3}, "never")
			there(`true`, "compare_and_set", "y", map[string]any{"z": 2}, []any{1})
			there(`true`, "compare_and_set", "y", []any{1}, map[string]any{"z": 2})
			for _, c := range []struct {
				ask  []any
				want string
			}{
				{[]any{"set", "n.below", 1}, "_Wrong: n of page " + page + " is no dict"},
				{[]any{"__delitem__", "none.such"}, "_Missing: "},
				{[]any{"append", "n", 1}, "_Wrong: n of page " + page + " is no list"},
				{[]any{"set", "large", strings.Repeat("x", 1<<20)}, "_Full: "},
				{[]any{"update", map[string]any{"a": 1, "n.q": 2}}, "_Wrong: "},
				{[]any{"add", "y"}, "_Wrong: y of page " + page + " is no whole number"},
				{[]any{"transaction"}, "StoreError: transaction of page " + page + " is for the group with the state = true, whose worker has the store; here add(), compare_and_set()"},
				{[]any{"on_change"}, "StoreError: on_change of page " + page + " is for the group with the state = true, whose worker has the store; here whoever writes"},
			} {
				if got := fmt.Sprint(b.globally("/old", append([]any{"store", "page", page}, c.ask...)...)); !strings.HasPrefix(got, c.want) {
					t.Errorf("%v: %.300s, want %s", c.ask[0], got, c.want)
				}
			}
			there(`4`, "__len__") // nothing of it was done
			there(`"None"`, "clear")
			here(`{}`, "get", "cart", map[string]any{})
			if got := fmt.Sprint(b.globally("/old", "store", "page", "none", "get", "a")); !strings.HasPrefix(got, "NoPage: ") {
				t.Errorf("a page that there is not: %s", got)
			}
		})
	}
}

func TestWhatAnotherGroupSaysOfAWriteTheClientHears(t *testing.T) {
	s := globalSite(t, t.TempDir(), "auto", "")
	b := s.browser()
	tab := b.tab(`{"path":"/"}`)
	ask := func(path, want string, ask ...any) {
		t.Helper()
		b.wantGlobal(path, want, append([]any{"store", "page", tab.page}, ask...)...)
	}
	ask("/", "null", "share", "cart")
	tab.changes("")
	for _, path := range []string{"/", "/old"} { // by the same names in either group
		ask(path, "null", "tell", "cart", path, "why", map[string]any{"a": 2})
		want := fmt.Sprintf(`[{"path":["cart"],"value":%q,"reason":"why","attributes":{"a":2}}]`, path)
		if list, _ := tab.changes(""); list != want {
			t.Errorf("%s, want %s", list, want)
		}
	}
	large := map[string]any{"a": strings.Repeat("x", 5<<10)}
	if got := fmt.Sprint(b.globally("/old", "store", "page", tab.page, "tell", "cart", 1, "why", large)); !strings.HasPrefix(got, "_Wrong: reason and attributes have ") {
		t.Errorf("of more than is said of a change: %.200s", got)
	}
}

func TestWritesOfAnotherGroupComeInOrderBetweenThoseOfTheWorkerAndOutliveIt(t *testing.T) {
	dir := t.TempDir()
	s := globalSite(t, dir, "auto", "")
	b := s.browser()
	page := b.tab(`{"path":"/"}`).page
	b.wantGlobal("/", `"None"`, "store", "page", page, "set", "list", []any{})
	const each = 40
	var wait sync.WaitGroup
	wait.Go(func() { b.wantGlobal("/old", "null", "store", "page", page, "times", "list", each) })
	wait.Go(func() { b.globally("/", "store", "page", page, "count", "n", each) })
	for _, path := range []string{"/", "/old"} { // the same code counts here and there
		wait.Go(func() { b.wantGlobal(path, "null", "store", "page", page, "both", each) })
	}
	wait.Wait()
	list, _ := b.globally("/old", "store", "page", page, "[]", "list").([]any)
	for n, got := range list {
		if got != float64(n) {
			t.Fatalf("number %d is %v", n, got)
		}
	}
	b.wantGlobal("/", fmt.Sprintf(`{"add":%d,"compare":%d}`, 2*each, 2*each), "store", "page", page, "[]", "by")
	if len(list) != each {
		t.Fatalf("%d of %d writes", len(list), each)
	}
	for _, g := range s.Status().Groups {
		if g.Name == "shop" {
			if err := syscall.Kill(g.Workers[0].PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Whoever has none to write for him just then is told so, and comes again.
	s.eventually("the next worker writes", func() bool {
		got := fmt.Sprint(b.globally("/old", "store", "page", page, "append", "list", "last"))
		return got == "None"
	})
	if list, _ = b.globally("/", "store", "page", page, "[]", "list").([]any); len(list) != each+1 {
		t.Errorf("%d writes are there, %d were acknowledged", len(list), each+1)
	}
	b.wantGlobal("/", fmt.Sprint(each), "store", "page", page, "[]", "n")
}

func TestAWriteOfAnotherGroupWaitsForTheStoresLockForItsTimeOnly(t *testing.T) {
	dir := t.TempDir()
	s := globalSite(t, dir, "auto", "")
	b := s.browser()
	page := b.tab(`{"path":"/old"}`).page
	b.wantGlobal("/", `"None"`, "store", "page", page, "set", "a", 1)
	gate := filepath.Join(dir, "gate")
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.globally("/", "thread", "store", "page", page, "hold", gate)
	}()
	s.awaitFile(gate+".begun", "")
	if got := fmt.Sprint(b.globally("/old", "store", "page", page, "briefly", "set", "a", 2)); !strings.HasPrefix(got, "_Late: ") {
		t.Errorf("under the lock: %s", got)
	}
	b.wantGlobal("/old", "1", "store", "page", page, "get", "a")
	write(t, dir, "gate", "")
	<-done
	b.wantGlobal("/old", `"None"`, "store", "page", page, "set", "a", 3)
	b.wantGlobal("/", "3", "store", "page", page, "get", "a")
}

// pid is the process that serves new requests of the group with the state.
func (s *site) pid() int {
	for _, g := range s.Status().Groups {
		if g.Name == "shop" && len(g.Workers) > 0 {
			return g.Workers[0].PID
		}
	}
	return 0
}

// A worker is replaced and still has a request: whoever is not in it is written to in the
// next one, where his requests go, and need not move from one to the other.
func TestWritesOfAnotherGroupGoToTheWorkerThatTakesTheUsersRequests(t *testing.T) {
	dir := t.TempDir()
	s := globalSite(t, dir, "auto", "")
	held := s.browser()
	page := held.tab(`{"path":"/old"}`).page
	gate := filepath.Join(dir, "gate")
	done := make(chan struct{})
	go func() {
		defer close(done)
		held.globally("/", "thread", "store", "page", page, "hold", gate)
	}()
	s.awaitFile(gate+".begun", "")
	first := s.pid()
	s.RestartGroups("shop")
	s.eventually("the next worker is ready", func() bool { return s.pid() != first })
	for n := range 8 {
		b := s.browser()
		other := b.tab(`{"path":"/old"}`).page
		b.wantGlobal("/old", `"None"`, "store", "page", other, "set", "n", n)
		b.wantGlobal("/", fmt.Sprint(n), "store", "page", other, "get", "n")
	}
	if st := s.Status().Stores; st.Moves != 0 || st.Stale != 0 {
		t.Errorf("users went to and fro: %+v", st)
	}
	write(t, dir, "gate", "")
	<-done
	// Who is through with the worker of before is written to in the next one, too.
	held.wantGlobal("/old", `"None"`, "store", "page", page, "set", "n", "behind")
	held.wantGlobal("/", `"behind"`, "store", "page", page, "get", "n")
}
