package guado_test

import (
	"strings"
	"testing"
)

// TestWhenAllPagesHaveEndedNothingIsLeftInTheAccount opens the pages of bench/memory.py, fewer
// of them, and ends all.
func TestWhenAllPagesHaveEndedNothingIsLeftInTheAccount(t *testing.T) {
	s := pagesSite(t, t.TempDir(), "target = \"many_pages:app\"\n")
	b := s.browser()
	var connections []string
	for range 4 {
		connections = append(connections, s.get("/open/500"))
	}
	st := s.Status()
	if st.Registry.Pages.Now != 2000 || st.Stores.Stores < 2000 || st.Stores.Bytes < 2000*2000 {
		t.Errorf("%d pages; stores: %+v", st.Registry.Pages.Now, st.Stores.Status)
	}
	if got := s.get("/left"); strings.HasPrefix(got, "[0,") {
		t.Errorf("the worker holds %s", got)
	}
	for _, some := range connections {
		if status, text := b.post("/end", some); status != 200 {
			t.Fatalf("ending pages: %d %s", status, text)
		}
	}
	awaits(t, "an empty account of the host", func() bool {
		st := s.Status()
		return st.Stores.Bytes == 0 && st.Stores.Stores == 0 && st.Stores.Users == 0 && st.Registry.State.Bytes == 0
	})
	awaits(t, "an empty account of the worker", func() bool { return s.get("/left") == "[0, 0]" })
}
