package guado_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

// smallState leaves room for about a dozen pages of the tests.
const smallState = "[state]\npage = \"64KiB\"\nconnection = \"64KiB\"\nuser = \"64KiB\"\nworker = \"1MiB\"\ntotal = \"%s\"\n"

func (s *site) registry() guado.RegistryStatus {
	s.t.Helper()
	st := s.Status().Registry
	if st == nil {
		s.t.Fatal("the server has no registry")
	}
	return *st
}

func awaits(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
	}
}

// left are those whose page is there.
func (s *site) left(tabs []*tab) (left []*tab) {
	pages := s.Pages()
	for _, tab := range tabs {
		if slices.ContainsFunc(pages, func(p guado.PageStatus) bool { return p.Page == tab.page }) {
			left = append(left, tab)
		}
	}
	return left
}

func TestStoresThatFillTheMemoryEndPagesWhoseClientIsAwayFirst(t *testing.T) {
	s := storeSite(t, t.TempDir(), fmt.Sprintf(smallState, "1MiB"))
	value := strings.Repeat("x", 60_000)
	fill := func(tab *tab) {
		t.Helper()
		tab.wantDone(fmt.Sprintf(`{"set":{"x":%q},"get":"y"}`, value), "null")
	}
	var away, here []*tab
	for range 3 {
		tab := s.browser().tab(`{"path":"/"}`)
		fill(tab)
		_ = tab.conn.Close() // its client goes
		awaits(t, "the client's going", func() bool { return s.Status().Push.Connected == 0 })
		away = append(away, tab)
	}
	for range 11 { // 14 pages are above 80 % of what may be
		tab := s.browser().tab(`{"path":"/"}`)
		fill(tab)
		here = append(here, tab)
	}
	awaits(t, "room", func() bool { return s.registry().State.Freed > 0 && s.registry().State.Bytes < 1<<20*80/100 })
	st := s.registry()
	if st.Pages.Ended["memory"] != 1 || len(st.Pages.Ended) != 1 {
		t.Errorf("ended: %v", st.Pages.Ended)
	}
	for _, tab := range s.left(here) {
		tab.wantDone(`{"add":"n"}`, "1")
	}
	if n := len(s.left(away)); n != 2 {
		t.Errorf("%d of the 3 pages whose client is away are left", n)
	}
	// When only connected ones are left, they go, too, and their clients hear why.
	for range 5 {
		tab := s.browser().tab(`{"path":"/"}`)
		fill(tab)
		here = append(here, tab)
	}
	awaits(t, "room", func() bool { return s.registry().Pages.Ended["memory"] >= 4 && s.registry().State.Bytes < 1<<20*80/100 })
	left := s.left(here)
	if len(s.left(away)) != 0 || len(left) >= len(here) {
		t.Errorf("%d of %d connected ones are left, and %d others", len(left), len(here), len(s.left(away)))
	}
	gone := here[slices.IndexFunc(here, func(tab *tab) bool { return !slices.Contains(left, tab) })]
	if f := gone.numbered(); f["close"] != 3506.0 {
		t.Errorf("the client of a page that had to make room: %v", f)
	}
	again := gone.tab(`{"path":"/"}`)
	again.wantDone(`{"get":"x"}`, "null")
	again.wantDone(`{"set":{"x":1},"get":"x"}`, "1")
}

func TestAWriteAboveALimitIsRefusedWhereItIsMade(t *testing.T) {
	s := storeSite(t, t.TempDir(), fmt.Sprintf(smallState, "1MiB"))
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantDone(`{"set":{"x":1},"get":"x"}`, "1")
	if status, _ := tab.post("/", fmt.Sprintf(`{"set":{"x":%q}}`, strings.Repeat("x", 70_000)), "Guado-Page: "+tab.page); status != 500 {
		t.Errorf("a write of 70 KB: %d", status)
	}
	tab.wantDone(`{"get":"x"}`, "1")
	if !strings.Contains(s.log.String(), "StoreFull") {
		t.Error("the log does not say why")
	}
}

func TestObjectsOfPagesAreForgottenBeforeAnyPageEnds(t *testing.T) {
	s := storeSite(t, t.TempDir(), fmt.Sprintf(smallState, "4MiB"))
	value := strings.Repeat("x", 32_500)
	var all []*tab
	for range 23 { // stores and objects are above 80 % of what the worker may have; stores alone are not
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		if got := tab.ask(fmt.Sprintf(`{"set":{"x":%q},"get":"y"}`, value), ""); got != nil {
			t.Fatalf("%v", got)
		}
		all = append(all, tab)
	}
	awaits(t, "rest", func() bool { return s.registry().State.Rested > 0 && s.registry().State.WorkerBytes < 1<<20*80/100 })
	for _, tab := range all {
		if got := tab.ask(`{"add":"n"}`, ""); got != 1.0 {
			t.Errorf("a page that had rested: %v", got)
		}
		if got := tab.ask(`{"get":"x"}`, ""); got != value {
			t.Errorf("its store is another: %.40v", got)
		}
	}
	if st := s.registry(); st.Pages.Now != len(all) || len(st.Pages.Ended) != 0 {
		t.Errorf("%+v", st)
	}
}
