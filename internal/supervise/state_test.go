package supervise

import (
	"os"
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
	err := Stopped.check(Serving)
	if err == nil || !strings.Contains(err.Error(), "stopped") || !strings.Contains(err.Error(), "serving") {
		t.Errorf("%v", err)
	}
}

func TestThePauseGrowsToItsMostAndIsNeverTheSameForAll(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 50 {
		var b backoff
		for i := range 100 {
			whole := float64(min(backoffFirst<<min(i, 20), backoffMost))
			pause := float64(b.failed())
			if pause < 0.8*whole-1 || pause > 1.2*whole+1 {
				t.Fatalf("pause %d is %v, not within a fifth of %v", i, time.Duration(pause), time.Duration(whole))
			}
			if i == 0 {
				seen[time.Duration(pause)] = true
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("%d different first pauses of 50: slots would start in step", len(seen))
	}
}

func TestFailuresAreForgottenByServing(t *testing.T) {
	var b backoff
	for range 8 {
		b.failed()
	}
	b.served(halfLife)
	if b.failures != 4 {
		t.Errorf("%v failures are left of 8 after half of them should be forgotten", b.failures)
	}
	if b.over(5) || !b.over(4) || b.over(0) {
		t.Error("the most that is borne is not held")
	}
	b.served(healthy)
	if b.failures != 0 {
		t.Errorf("%v failures are left after a healthy time", b.failures)
	}
}

func TestEachWorkerDrawsItsOwnShareOfTheJitter(t *testing.T) {
	o := Options{Limits: Limits{Requests: 1000, RequestsJitter: 500, Age: time.Hour, AgeJitter: time.Hour}}
	requests, ends, now := map[uint64]bool{}, map[time.Time]bool{}, time.Now()
	for range 50 {
		l := drawn(&o, now)
		if l.requests < 1000 || l.requests > 1500 || l.end.Before(now.Add(time.Hour)) || l.end.After(now.Add(2*time.Hour)) {
			t.Fatalf("%+v", l)
		}
		requests[l.requests], ends[l.end] = true, true
	}
	if len(requests) < 10 || len(ends) < 10 {
		t.Errorf("%d numbers of requests and %d ages of 50 workers: they would be replaced in step", len(requests), len(ends))
	}
	if l := drawn(&Options{}, now); l.requests != 0 || !l.end.IsZero() {
		t.Errorf("without limits: %+v", l)
	}
}

func TestTheDocumentationHasTheTableOfMoves(t *testing.T) {
	text, err := os.ReadFile("../../docs/workers.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), MovesTable()) {
		t.Errorf("docs/workers.md needs this table:\n%s", MovesTable())
	}
}
