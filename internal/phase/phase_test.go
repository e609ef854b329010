package phase

import (
	"slices"
	"strings"
	"testing"
)

// good are the facts of a server for which nothing fails in any phase.
func good(phase int) *Facts {
	return &Facts{
		Phase: phase, Apps: 1, Answered: 10, StateGroup: "shop", StateWorkers: 1, StateThreads: 8, Register: true,
		Handed: Handed{Known: true, Items: 3}, Pages: 1, Opened: 1, Heard: 1, Objects: 1, Classes: 1, Turns: 100, Used: 100, Met: 1,
		Commits: 10, Limit: 100, Compared: 5,
	}
}

// has are the criteria of a phase that only somebody can attest.
func has(target int) []string {
	return slices.DeleteFunc(Names(target), func(name string) bool {
		return slices.ContainsFunc(criteria[target], func(c criterion) bool { return c.name == name && c.may })
	})
}

func TestEachPhaseIsAStepFromTheOneBefore(t *testing.T) {
	for p, want := range map[int]int{0: 3, 3: 4, 4: 5, 5: 6} {
		if next, ok := Next(p); !ok || next != want {
			t.Errorf("behind %d comes %d", p, next)
		}
		if before, ok := Before(want); !ok || before != p {
			t.Errorf("before %d comes %d", want, before)
		}
	}
	for _, ends := range []func() (int, bool){func() (int, bool) { return Next(6) }, func() (int, bool) { return Before(0) }, func() (int, bool) { return Next(1) }} {
		if p, ok := ends(); ok {
			t.Errorf("there is a phase %d", p)
		}
	}
}

func TestWhatIsMeasuredFailsByItsName(t *testing.T) {
	for name, c := range map[string]struct {
		target int
		change func(f *Facts)
	}{
		"entry":           {0, func(f *Facts) { f.Missing = []string{"shop has no worker"} }},
		"application":     {0, func(f *Facts) { f.Deaths = 1 }},
		"application/5xx": {0, func(f *Facts) { f.Answered, f.Wrong = 3, 1 }},
		"websocket":       {0, func(f *Facts) { f.Apps = 0 }},
		"process":         {3, func(f *Facts) { f.StateWorkers = 2 }},
		"registry":        {3, func(f *Facts) { f.Opened = 0 }},
		"push":            {3, func(f *Facts) { f.Heard = 0 }},
		"register":        {4, func(f *Facts) { f.Handed.Differences = 1 }},
		"rebuild":         {4, func(f *Facts) { f.Commits = 0 }},
		"ipc":             {4, func(f *Facts) { f.Stale = 5 }},
		"resident":        {5, func(f *Facts) { f.Objects = 0 }},
		"same":            {5, func(f *Facts) { f.Faults = 50 }},
		"life":            {5, func(f *Facts) { f.Busy = 50 }},
		"verify":          {6, func(f *Facts) { f.Differences = 1 }},
		"memory":          {6, func(f *Facts) { f.Bytes = 90 }},
	} {
		f := good(c.target)
		all, known := Check(c.target, f, has(c.target))
		if !known || !Good(all) {
			t.Errorf("%s: before anything is wrong: %+v", name, all)
		}
		c.change(f)
		all, _ = Check(c.target, f, has(c.target))
		fails := slices.DeleteFunc(all, func(r Result) bool { return r.State != Fails })
		if i := slices.IndexFunc(fails, func(r Result) bool {
			return r.Name == strings.TrimSuffix(name, "/5xx") && r.How == "measured" && r.Note != ""
		}); i < 0 {
			t.Errorf("%s does not fail: %+v", name, fails)
		}
	}
}

func TestWhatNobodyHasAttestedFailsInThePhaseAndComesLaterBeforeIt(t *testing.T) {
	for _, p := range Order {
		for _, name := range Names(p) {
			at := func(now int, attested ...string) State {
				all, known := Check(p, good(now), attested)
				if !known {
					t.Errorf("phase %d knows no %v", p, attested)
				}
				i := slices.IndexFunc(all, func(r Result) bool { return r.Name == name })
				return all[i].State
			}
			if may := criteria[p][slices.IndexFunc(criteria[p], func(c criterion) bool { return c.name == name })].may; may {
				continue // it is measured, and fine
			}
			if s := at(p); s != Fails {
				t.Errorf("%s of phase %d: %s", name, p, s)
			}
			if s := at(p, name); s != OK {
				t.Errorf("%s of phase %d, attested: %s", name, p, s)
			}
			if before, ok := Before(p); ok {
				if s := at(before); s != Later && (name != "shadow" || s != Fails) {
					t.Errorf("%s of phase %d, in phase %d: %s", name, p, before, s)
				}
			}
		}
	}
	if _, known := Check(3, good(3), []string{"registry"}); known {
		t.Error("what is measured was attested")
	}
}

func TestWhatIsMeasuredMayBeAttestedWhereSomebodyKnowsBetter(t *testing.T) {
	for name, c := range map[string]struct {
		target int
		change func(f *Facts)
	}{
		"application": {0, func(f *Facts) { f.Answered, f.Wrong = 3, 1 }},
		"push":        {3, func(f *Facts) { f.Heard = 0 }},
	} {
		f := good(c.target)
		c.change(f)
		all, _ := Check(c.target, f, has(c.target))
		i := slices.IndexFunc(all, func(r Result) bool { return r.Name == name })
		if r := all[i]; r.State != Fails || !strings.HasSuffix(r.Note, "then --attest "+name) {
			t.Errorf("%s, which nobody attests: %+v", name, r)
		}
		all, known := Check(c.target, f, append(has(c.target), name))
		if r := all[i]; r.State != OK || r.How != "attested" || !known || !Good(all) {
			t.Errorf("%s, attested: %+v", name, r)
		}
	}
}

func TestWhereNoRegisterIsNamedThereIsNothingToCompare(t *testing.T) {
	f := good(3)
	f.Register = false
	if all, _ := Check(4, f, nil); !Good(all) {
		t.Errorf("a step without a register is not taken: %+v", all)
	}
	f.Register = true
	if all, _ := Check(4, f, nil); Good(all) {
		t.Error("nobody has compared the registers, and the step is taken")
	}
}
