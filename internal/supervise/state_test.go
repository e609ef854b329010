package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEachMoveOfTheTableLeadsToAKnownStateAndEachStateIsReached(t *testing.T) {
	reached := map[State]bool{}
	for _, from := range States() {
		if len(from.Moves()) == 0 {
			t.Errorf("nothing follows %s", from)
		}
		for _, to := range from.Moves() {
			reached[to] = true
			if !slices.Contains(States(), to) {
				t.Errorf("%s leads to %q, which is no state", from, to)
			}
			if err := from.check(to); err != nil {
				t.Error(err)
			}
		}
	}
	for _, s := range States() {
		if !reached[s] {
			t.Errorf("nothing leads to %s", s)
		}
	}
}

func TestAnIllegalMoveIsAnErrorWithBothNames(t *testing.T) {
	err := Stopped.check(Ready)
	if err == nil || !strings.Contains(err.Error(), "stopped") || !strings.Contains(err.Error(), "ready") {
		t.Errorf("%v", err)
	}
}

func TestThePauseGrowsToItsMostAndIsNeverTheSameForAll(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 50 {
		b := backoff{first: backoffFirst, most: backoffMost}
		for i := range 100 {
			whole := min(backoffFirst<<min(i, 20), backoffMost)
			pause := b.next()
			if pause < whole/2 || pause > whole {
				t.Fatalf("pause %d is %v, not between %v and %v", i, pause, whole/2, whole)
			}
			if i == 0 {
				seen[pause] = true
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d different first pauses of 50: slots would start in step", len(seen))
	}
}
