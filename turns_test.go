package guado_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// both asks two tabs at once, lets them go on when both have begun, and gives what they were
// answered, the one that was let in first.
func both(s *site, ask func(i int, gate string) string) (refused string) {
	t := s.t
	t.Helper()
	dir := t.TempDir()
	var said [2]string
	var all sync.WaitGroup
	for i := range said {
		all.Go(func() { said[i] = ask(i, filepath.Join(dir, fmt.Sprint(i))) })
	}
	for i := range said {
		s.awaitFile(filepath.Join(dir, fmt.Sprint(i)+".begun"), "begun")
	}
	for i := range said {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if strings.Contains(said[1], "had both") {
		said[0], said[1] = said[1], said[0]
	}
	if !strings.Contains(said[0], "had both") || !strings.Contains(said[1], " waits for ") {
		t.Fatalf("%q and %q: one has both, and the other one is told of the cycle", said[0], said[1])
	}
	return said[1]
}

// Requests, coroutines and handlers that would wait for each other for ever are told so at once:
// whatever they have, the turn of a page or the lock of a store.
func TestACycleOverTurnsAndLocksIsRefusedAtOnceAndNamesBothSides(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		var tabs [2]*tab
		for i := range tabs {
			tabs[i] = s.browser().tab(`{"path":"/","class":"Cart"}`)
		}
		things := []string{"turn", "lock", "transaction"}
		for _, has := range things {
			for _, wants := range things {
				kinds := [2]string{has, wants}
				told := both(s, func(i int, gate string) string {
					_, text := tabs[i].post("/", fmt.Sprintf(`{"across":{"has":[%q,%q],"wants":[%q,%q],"wait":%q}}`,
						kinds[i], tabs[i].page, kinds[1-i], tabs[1-i].page, gate), "Guado-Page: "+tabs[i].page)
					return text
				})
				for i, kind := range kinds {
					what := "the lock of page "
					if kind == "turn" {
						what = "the turn of page "
					}
					if !strings.Contains(told, what+tabs[i].page) || !strings.Contains(told, "POST /") {
						t.Errorf("%s and %s: %s", has, wants, told)
					}
				}
			}
		}
		// Handlers have the turns of their pages.
		told := both(s, func(i int, gate string) string {
			return fmt.Sprint(tabs[i].ask(fmt.Sprintf(`{"wants":{"wants":["turn",%q],"wait":%q}}`, tabs[1-i].page, gate), ""))
		})
		for _, tab := range tabs {
			if !strings.Contains(told, "the turn of page "+tab.page) || !strings.Contains(told, "which a turn of page "+tab.page+" has") {
				t.Errorf("handlers: %s", told)
			}
		}
		told = both(s, func(i int, gate string) string {
			if i == 0 {
				return fmt.Sprint(tabs[0].ask(fmt.Sprintf(`{"wants":{"wants":["lock",%q],"wait":%q}}`, tabs[1].page, gate), ""))
			}
			_, text := tabs[1].post("/", fmt.Sprintf(`{"across":{"has":["lock",%q],"wants":["turn",%q],"wait":%q}}`, tabs[1].page, tabs[0].page, gate))
			return text
		})
		if !strings.Contains(told, "the turn of page "+tabs[0].page) || !strings.Contains(told, "the lock of page "+tabs[1].page) {
			t.Errorf("a handler and a request: %s", told)
		}
	})
}
