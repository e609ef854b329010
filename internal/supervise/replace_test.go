package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/supervise"
)

func TestAReplacedWorkerServesUntilItsSuccessorDoes(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.DrainMax = patience })
	old := r.ready(1)
	if err := r.ReplaceSlot(context.Background(), "p01", supervise.ByOperator); err != nil {
		t.Fatal(err)
	}
	w := r.worker()
	if w.State != supervise.Serving || w.PID == old || w.Restarts[supervise.ByOperator] != 1 {
		t.Errorf("%+v", w)
	}
	r.eventually("the old one is gone", func() bool { return gone(old) && len(r.worker().Leaving) == 0 })
	text := r.log.String()
	if taken, left := strings.Index(text, "worker is replaced"), strings.Index(text, "from=serving to=draining"); taken < 0 || left < 0 {
		t.Errorf("log: %s", text)
	}
	if !strings.Contains(r.out.String(), "drained\n") {
		t.Error("the old one was not drained")
	}
}

func TestAWorkerWhoseSuccessorCannotBootGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "good")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "fail-until:"+file, func(o *supervise.Options) { o.Slots = []string{"p01", "p02"} })
	r.eventually("both serve", func() bool { return len(r.pool.Status().Workers) == 2 })
	before := r.Status().Workers
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	err := r.Replace(context.Background(), supervise.ByReload)
	var boot *link.BootError
	if !errors.As(err, &boot) {
		t.Fatalf("%v", err)
	}
	for i, w := range r.Status().Workers {
		if w.State != supervise.Serving || w.PID != before[i].PID || w.Coming != 0 {
			t.Errorf("%+v", w)
		}
	}
	if n := strings.Count(r.log.String(), "successor cannot boot"); n != 1 {
		t.Errorf("%d replacements were tried: the first that fails ends it", n)
	}
}

func TestOneWorkerOfAGroupIsReplacedAtATime(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.Slots = []string{"p01", "p02", "p03"}; o.DrainMax = patience })
	r.eventually("all serve", func() bool { return len(r.pool.Status().Workers) == 3 })
	done := make(chan error, 1)
	go func() { done <- r.Replace(context.Background(), supervise.ByReload) }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		default:
			time.Sleep(time.Millisecond) // it is the state between the events that is looked at
			comings, serving := 0, 0
			for _, w := range r.Status().Workers {
				if w.Coming != 0 {
					comings++
				}
				if w.State == supervise.Serving {
					serving++
				}
			}
			if comings > 1 || serving < 3 {
				t.Fatalf("%d are coming, %d serve", comings, serving)
			}
		}
	}
	for _, w := range r.Status().Workers {
		if w.Starts != 2 {
			t.Errorf("%+v", w)
		}
	}
}

func TestAWorkerThatHasServedItsTimeIsReplaced(t *testing.T) {
	for name, limits := range map[string]supervise.Limits{
		"age":    {Age: time.Millisecond, AgeJitter: time.Millisecond},
		"memory": {MemorySoft: 1, MemorySamples: 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, "hello", func(o *supervise.Options) { o.Limits = limits; o.DrainMax = patience })
			first := r.ready(1)
			r.eventually("it is replaced", func() bool { w := r.worker(); return w.Starts >= 2 && w.Restarts[supervise.Reason(name)] >= 1 })
			r.eventually("the old one is gone", func() bool { return gone(first) })
			if strings.Contains(r.log.String(), "worker died") {
				t.Error("it died")
			}
		})
	}
}

func TestAWorkerOverItsHardMemoryLimitIsKilled(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.Limits.MemoryHard = 1 })
	r.eventually("it was killed", func() bool { return r.worker().Restarts[supervise.ByMemory] > 0 })
	if w := r.worker(); !strings.Contains(w.Last, "memory_hard") {
		t.Errorf("%+v", w)
	}
}

func TestAWorkerThatFailsTooOftenIsFrozenWithItsOutput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fixed")
	r := start(t, "fail-until:"+file, func(o *supervise.Options) { o.FreezeAfter = 2 })
	r.eventually("it is frozen", func() bool { return r.worker().State == supervise.Frozen })
	w := r.worker()
	if w.Starts != 2 || len(w.Output) == 0 || !strings.HasPrefix(w.Output[0].Text, "worker ") {
		t.Errorf("%+v", w)
	}
	if !strings.Contains(r.log.String(), "worker is frozen") || r.pool.Status().Problem == "" {
		t.Errorf("log %s, pool %+v", r.log.String(), r.pool.Status())
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.ReplaceSlot(context.Background(), "p01", supervise.ByReload); err != nil {
		t.Fatal(err)
	}
	if r.worker().State != supervise.Serving {
		t.Errorf("%+v", r.worker())
	}
}

func TestFailedBootsAndDeathsSoonAfterReadyAreCountedEachByItself(t *testing.T) {
	r := start(t, "alternate:"+filepath.Join(t.TempDir(), "file"), func(o *supervise.Options) { o.FreezeAfter = 3 })
	r.eventually("it is frozen", func() bool { return r.worker().State == supervise.Frozen })
	if w := r.worker(); w.Starts != 6 || w.Restarts[supervise.ByBoot] != 3 || w.Restarts[supervise.ByDeath] != 3 {
		t.Errorf("%+v", w)
	}
}

func TestTheNewestWorkerIsReplacedFirst(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.Slots = []string{"p01", "p02", "p03"}; o.DrainMax = patience })
	r.eventually("all serve", func() bool { return len(r.pool.Status().Workers) == 3 })
	for _, slot := range []string{"p02", "p03", "p01"} {
		if err := r.ReplaceSlot(context.Background(), slot, supervise.ByOperator); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(r.Newest()); got != "[p01 p03 p02]" {
		t.Errorf("the newest first: %s", got)
	}
	mark := len(r.log.String())
	r.ReplaceSoon(supervise.ByOperator)
	r.eventually("all are replaced", func() bool { return strings.Count(r.log.String()[mark:], "worker is replaced") == 3 })
	var order []string
	for line := range strings.Lines(r.log.String()[mark:]) {
		if strings.Contains(line, "worker is replaced") {
			_, slot, _ := strings.Cut(line, "slot=")
			order = append(order, slot[:3])
		}
	}
	if fmt.Sprint(order) != "[p01 p03 p02]" {
		t.Errorf("replaced in the order %v", order)
	}
}

func TestAFrozenSlotLeavesTheOthersServing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "good")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "fail-until:"+file, func(o *supervise.Options) {
		o.Slots, o.FreezeAfter, o.Settled = []string{"p01", "p02"}, 1, time.Hour
	})
	r.eventually("both serve", func() bool { return len(r.pool.Status().Workers) == 2 })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	kill(t, r.worker().PID)
	r.eventually("the first is frozen", func() bool { return r.worker().State == supervise.Frozen })
	if st := r.pool.Status(); st.Problem != "" || len(st.Workers) != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAHaltedWorkerStaysAwayUntilItIsWanted(t *testing.T) {
	r := start(t, "hello")
	pid := r.ready(1)
	if err := r.Halt("p01"); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is stopped", func() bool { return r.worker().State == supervise.Stopped && gone(pid) })
	if err := r.ReplaceSlot(context.Background(), "p01", supervise.ByOperator); err != nil {
		t.Fatal(err)
	}
	r.ready(2)
	if err := r.Halt("p09"); err == nil {
		t.Error("a slot that is not there was halted")
	}
}

func TestAWorkerThatAnOperatorKillsIsFollowedByAnother(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.Settled = time.Nanosecond })
	first := r.ready(1)
	if err := r.Kill("p01"); err != nil {
		t.Fatal(err)
	}
	if second := r.ready(2); second == first || !gone(first) {
		t.Errorf("process %d, then %d", first, second)
	}
	if w := r.worker(); w.Restarts[supervise.ByOperator] != 1 || !strings.Contains(w.Last, "operator") {
		t.Errorf("%+v", w)
	}
	if err := r.Halt("p01"); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is halted", func() bool { return r.worker().State == supervise.Stopped })
	if err := r.Kill("p01"); err == nil || !strings.Contains(err.Error(), "has no process") {
		t.Errorf("without a process: %v", err)
	}
	if err := r.Kill("p99"); !errors.Is(err, supervise.ErrNoSlot) {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestACordonedWorkerIsLeftInPeaceAndComesBack(t *testing.T) {
	r := start(t, "hello")
	pid := r.ready(1)
	for _, on := range []bool{true, false} {
		if err := r.Cordon("p01", on); err != nil {
			t.Fatal(err)
		}
		if w := r.worker(); w.Cordoned != on || w.PID != pid {
			t.Errorf("%+v", w)
		}
	}
}

func TestAWorkerThatDiesWhileItsSuccessorBootsIsFollowedByIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "go")
	r := start(t, "hello", func(o *supervise.Options) { o.BootTimeout = patience })
	pid := r.ready(1)
	r.Change(func(o *supervise.Options) {
		o.Command.Env = func() ([]string, error) { return append(os.Environ(), "ROLE=wait:"+file), nil }
	})
	done := make(chan error, 1)
	go func() { done <- r.ReplaceSlot(context.Background(), "p01", supervise.ByReload) }()
	r.eventually("another one is coming", func() bool { return r.worker().Coming != 0 })
	coming := r.worker().Coming
	kill(t, pid)
	r.eventually("it is gone", func() bool { return len(r.pool.Status().Workers) == 0 })
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if w := r.worker(); w.PID != coming || w.State != supervise.Serving || w.Starts != 2 {
		t.Errorf("%+v", w)
	}
}

func TestAStopEndsAReplacementToo(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.BootTimeout = time.Hour })
	r.ready(1)
	r.Change(func(o *supervise.Options) {
		o.Command.Env = func() ([]string, error) { return append(os.Environ(), "ROLE=silent"), nil }
	})
	done := make(chan error, 1)
	go func() { done <- r.ReplaceSlot(context.Background(), "p01", supervise.ByReload) }()
	r.eventually("another one is coming", func() bool { return r.worker().Coming != 0 })
	coming := r.worker().Coming
	r.Drain(context.Background())
	if err := <-done; err == nil {
		t.Error("it is said to have been replaced")
	}
	if !gone(coming) {
		t.Error("the one that was coming is left behind")
	}
}

func TestAFloodOfLinesIsSuppressedAndCounted(t *testing.T) {
	r := start(t, "flood", func(o *supervise.Options) { o.OutputLimit = 10 })
	r.eventually("the flood is over", func() bool { return strings.Contains(fmt.Sprint(r.Tail("p01")), "the end") })
	r.eventually("it is told how many lines are missing", func() bool { return strings.Contains(r.out.String(), "lines suppressed\n") })
	if n := strings.Count(r.out.String(), "flood\n"); n < 50 || n > 1000 {
		t.Errorf("%d of 5000 lines were passed on", n)
	}
}

func TestALineOfJSONIsPassedOnAsItIs(t *testing.T) {
	r := start(t, "json")
	r.eventually("both lines came", func() bool { return strings.Contains(r.out.String(), "broken") })
	if !strings.Contains(r.out.String(), "\n{\"level\":\"info\"}\n") || !strings.Contains(r.out.String(), "shop p01 | {broken\n") {
		t.Errorf("%q", r.out.String())
	}
}
