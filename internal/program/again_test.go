package program_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/program"
)

// counts is a shell that adds a line to the file "runs" and goes on with rest.
func counts(name, rest string) program.Spec { return shell(name, "echo run >>runs; "+rest) }

func (r *rig) runs() int {
	data, err := os.ReadFile(r.file("runs"))
	if err != nil {
		return 0
	}
	return strings.Count(string(data), "\n")
}

func TestThePolicySaysAfterWhichEndsAProgramIsStartedAgain(t *testing.T) {
	for _, c := range []struct {
		policy program.Policy
		code   string
		codes  []int
		again  bool
	}{
		{program.Always, "0", []int{0}, true},
		{program.Always, "3", []int{0}, true},
		{program.OnFailure, "0", []int{0}, false},
		{program.OnFailure, "3", []int{0}, true},
		{program.OnFailure, "3", []int{0, 3}, false},
		{program.Never, "3", []int{0}, false},
	} {
		t.Run(string(c.policy)+c.code+strconv.Itoa(len(c.codes)), func(t *testing.T) {
			// The second run goes on, so that what is seen does not change any more.
			s := counts("x", "test $(wc -l <runs) -gt 1 && exec sleep 1000; until test -e go; do sleep 0.02; done; exit "+c.code)
			s.Restart, s.ExitCodes = c.policy, c.codes
			r := start(t, s)
			r.becomes("x", program.Ready)
			if err := os.WriteFile(r.file("go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.again {
				r.eventually("it runs again", func() bool { return r.get("x").Starts == 2 && r.runs() == 2 })
			} else if st := r.becomes("x", program.Done); st.Starts != 1 || strconv.Itoa(st.Last.Code) != c.code {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestAProgramThatCannotBeStartedIsFrozenAndShowsItsOutputAndOthersGoOn(t *testing.T) {
	s := counts("bad", "echo 'no database' >&2; exit 3")
	s.StartTime, s.StartRetries = patience, 1
	missing := shell("missing", "")
	missing.Command, missing.StartRetries = []string{"no-such-command"}, 0
	r := start(t, s, missing, self(t, "good", "sleep"))
	st := r.becomes("bad", program.Frozen)
	if st.Starts != 2 || st.Failures != 2 || st.Last.Code != 3 {
		t.Errorf("%+v", st)
	}
	if missing := r.becomes("missing", program.Frozen); !strings.Contains(missing.Problem, "no-such-command") || !strings.Contains(st.Problem, "exit code 3") {
		t.Errorf("why they are frozen: %q, %q", missing.Problem, st.Problem)
	}
	for _, words := range []string{"program is frozen", "exit code 3, before it was ready", "no database", "no-such-command"} {
		if !strings.Contains(r.log.String(), words) {
			t.Errorf("the log does not say %q", words)
		}
	}
	r.becomes("good", program.Ready)
	if err := r.StartProgram(r.ctx(), "bad"); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("started by hand: %v", err)
	}
}

func TestWhatAFailedStartPrintsIsShownOnceAndNotThatOfEarlierOnes(t *testing.T) {
	open := counts("open", "echo run $(wc -l <runs) fails; exit 3")
	file := open
	file.Name, file.Program, file.Dir = "file", "file", t.TempDir()
	file.Stdout = program.LogFile{Path: file.Dir + "/log"}
	file.Stderr = file.Stdout
	open.StartTime, file.StartTime = patience, patience
	r := start(t, open, file)
	for _, name := range []string{"open", "file"} {
		r.eventually(name+" was started twice", func() bool { return strings.Count(r.log.String(), "cannot be started\" program="+name) == 2 })
	}
	for line := range strings.Lines(r.log.String()) {
		switch {
		case !strings.Contains(line, "cannot be started"):
		case strings.Contains(line, "program=open"):
			if strings.Contains(line, "fails") {
				t.Errorf("the log repeats the output: %s", line)
			}
		case strings.Count(line, "fails") != 1:
			t.Errorf("the log has not the lines of this process alone: %s", line)
		}
	}
	if !strings.Contains(r.out.String(), "open | run 1 fails\n") {
		t.Errorf("output %q", r.out.String())
	}
}

func TestAProgramThatDiesAgainAndAgainIsPutOff(t *testing.T) {
	s := counts("x", "exit 1")
	s.StartTime = 0
	s.Ready = program.Condition{Kind: "file"}
	s.Command = []string{"sh", "-c", "date +%N >up; sleep 0.2; exit 1"}
	r := &rig{t: t, dir: t.TempDir()}
	s.Dir, s.Ready.Value = r.dir, r.file("up")
	r = start(t, s)
	st := r.becomes("x", program.Waiting)
	if st.Starts != 4 || st.Next == nil {
		t.Errorf("%+v", st)
	}
}

func TestAOnceProgramIsTriedAgainUntilItEndsWell(t *testing.T) {
	s := counts("migrate", "test $(wc -l <runs) -ge 2")
	s.Once, s.Restart = true, program.OnFailure
	after := self(t, "after", "sleep")
	after.After = []string{"migrate"}
	r := start(t, s, after)
	r.becomes("after", program.Ready)
	if st := r.get("migrate"); st.State != program.Done || st.Starts != 2 || r.runs() != 2 {
		t.Errorf("%+v", st)
	}
}

func TestAProgramThatIsNotReadyInTimeIsAFailedStart(t *testing.T) {
	s := self(t, "x", "sleep")
	s.Ready = program.Condition{Kind: "file", Value: "/nonexistent/file"}
	s.ReadyTimeout, s.StartRetries = 100*time.Millisecond, 0
	r := start(t, s)
	r.becomes("x", program.Frozen)
	if !strings.Contains(r.log.String(), "not ready within ready_timeout") {
		t.Error(r.log.String())
	}
}

// every is a schedule.
type every time.Duration

func (e every) Next(t time.Time) time.Time { return t.Add(time.Duration(e)) }

func TestAScheduledProgramRunsAtItsTimesAndItsFailureIsAnError(t *testing.T) {
	s := counts("job", "echo it is broken; exit 4")
	s.Schedule, s.Restart, s.Overlap = every(50*time.Millisecond), program.Never, program.Skip
	r := start(t, s)
	r.eventually("it has run three times", func() bool { return r.runs() >= 3 })
	r.eventually("it waits", func() bool {
		st := r.get("job")
		return st.State == program.Scheduled && st.Next != nil && st.Last.Code == 4
	})
	if !strings.Contains(r.log.String(), "program has failed") || !strings.Contains(r.log.String(), "it is broken") {
		t.Error(r.log.String())
	}
}

func TestAScheduledProgramRunsAtOnceWhenItIsStartedByHand(t *testing.T) {
	s := counts("job", "exit 0")
	s.Schedule, s.Restart, s.Overlap = every(24*time.Hour), program.Never, program.Skip
	r := start(t, s)
	r.becomes("job", program.Scheduled)
	if err := r.StartProgram(r.ctx(), "job"); err != nil {
		t.Error(err)
	}
	if st := r.becomes("job", program.Scheduled); st.Starts != 1 || r.runs() != 1 {
		t.Errorf("%+v, %d runs", st, r.runs())
	}
}

func TestOverlapSaysWhatHappensToATimeThatComesWhileTheJobRuns(t *testing.T) {
	for _, overlap := range []program.Overlap{program.Skip, program.Queue, program.Replace} {
		t.Run(string(overlap), func(t *testing.T) {
			// once comes in 0 s, then 100 ms later, then never.
			s := counts("job", "until test -e go; do sleep 0.02; done")
			s.Schedule, s.Restart, s.Overlap = &twice{}, program.Never, overlap
			r := start(t, s)
			r.eventually("the second time has come", func() bool { return strings.Contains(r.log.String(), "still runs when its next time comes") })
			if overlap == program.Replace {
				r.eventually("a second process runs", func() bool { return r.runs() == 2 })
			}
			if err := os.WriteFile(r.file("go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			want := 2
			if overlap == program.Skip {
				want = 1
			}
			r.eventually("it waits", func() bool { st := r.get("job"); return st.State == program.Scheduled && st.Starts == want })
		})
	}
}

// twice is a schedule of two times, and another one in a day.
type twice struct{ asked int }

func (x *twice) Next(t time.Time) time.Time {
	x.asked++
	if x.asked <= 2 {
		return t.Add(100 * time.Millisecond)
	}
	return t.Add(24 * time.Hour)
}

func TestAJobThatHangsIsEndedAtItsRunTimeout(t *testing.T) {
	s := counts("job", "exec sleep 1000")
	s.Schedule, s.Restart, s.Overlap, s.RunTimeout = &twice{}, program.Never, program.Skip, 100*time.Millisecond
	r := start(t, s)
	r.eventually("it was ended", func() bool { st := r.get("job"); return st.Last != nil && st.Last.Signal == syscall.SIGTERM.String() })
	if !strings.Contains(r.log.String(), "ran longer than run_timeout") {
		t.Error(r.log.String())
	}
}
