package guado_test

import (
	"fmt"
	"strings"
	"testing"
)

// The worker lets go what pages keep, those first that were not used for longest, and has it
// again when they are used; of pages whose class has objects, these too.
func TestTheWorkerLetsStoresOfPagesGoAndHasThemAgain(t *testing.T) {
	for kind, class := range map[string]string{"wsgi": "", "asgi": "Cart"} {
		t.Run(kind, func(t *testing.T) {
			s := storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\n", kind)+fmt.Sprintf(smallState, "64MiB"))
			b := s.browser()
			value := strings.Repeat("x", 40_000)
			var all []*tab
			for range 40 { // half as much again as the worker may have
				tab := b.tab(fmt.Sprintf(`{"path":"/","class":%q}`, class))
				tab.wantDone(fmt.Sprintf(`{"set":{"x":%q,"n":1},"get":"n"}`, value), "1")
				all = append(all, tab)
			}
			awaits(t, "rest", func() bool {
				st := s.registry().State
				return st.Rested >= 10 && st.WorkerBytes < 1<<20*80/100 && st.Bytes > 40*40_000
			})
			held := all[len(all)-1].do(`{"get":"n","held":1}`)
			var n int
			if _, err := fmt.Sscan(held, &n); err != nil || n > 30 {
				t.Errorf("the worker has %s stores in its memory", held)
			}
			for i, tab := range all {
				if got := tab.do(`{"add":"n","get":"x"}`); got != fmt.Sprintf("%q", value) {
					t.Fatalf("page %d: its store is another: %.40v", i, got)
				}
				tab.wantDone(`{"add":"n"}`, "3")
			}
			all[0].kill()
			all[0].wantDone(`{"add":"n"}`, "4")
			if st := s.registry(); st.Pages.Now != len(all) || len(st.Pages.Ended) != 0 {
				t.Errorf("%+v", st)
			}
			if st := s.Status().Stores; st.Late != 0 || st.Stale != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}
