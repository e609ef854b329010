package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/program"
)

func TestAProgramIsStoppedStartedAndRestartedByName(t *testing.T) {
	manual := self(t, "manual", "sleep")
	manual.Autostart = false
	r := start(t, manual, self(t, "other", "sleep"))
	r.becomes("other", program.Ready)
	if st := r.get("manual"); st.State != program.Stopped || st.Starts != 0 {
		t.Errorf("%+v", st)
	}
	if err := r.StartProgram(r.ctx(), "manual"); err != nil {
		t.Fatal(err)
	}
	first := r.get("manual")
	if first.State != program.Ready || first.PID == 0 {
		t.Errorf("%+v", first)
	}
	if err := r.RestartProgram(r.ctx(), "manual"); err != nil {
		t.Fatal(err)
	}
	if st := r.get("manual"); st.State != program.Ready || st.PID == first.PID || !gone(first.PID) || st.Starts != 2 {
		t.Errorf("%+v", st)
	}
	if err := r.StopProgram(r.ctx(), "manual"); err != nil {
		t.Fatal(err)
	}
	if st := r.get("manual"); st.State != program.Stopped || st.PID != 0 {
		t.Errorf("%+v", st)
	}
	if err := r.Signal("manual", syscall.SIGUSR1, false); !errors.Is(err, program.ErrNotRunning) {
		t.Errorf("%v", err)
	}
	if err := r.StartProgram(r.ctx(), "maual"); !errors.Is(err, program.ErrUnknown) || !strings.Contains(err.Error(), "manual, other") {
		t.Errorf("%v", err)
	}
}

func TestAProgramThatIsEndedByASignalOfTheOperatorFollowsItsPolicy(t *testing.T) {
	s := self(t, "x", "sleep")
	s.Restart = program.OnFailure
	r := start(t, s)
	r.becomes("x", program.Ready)
	r.eventually("it listens", func() bool { return strings.Contains(r.out.String(), "up") })
	if err := r.Signal("x", syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if st := r.becomes("x", program.Done); st.Last.Code != 0 {
		t.Errorf("%+v", st)
	}
	if err := r.StopProgram(r.ctx(), "x"); err != nil || r.get("x").State != program.Stopped {
		t.Errorf("%v %+v", err, r.get("x"))
	}
}

func TestAnOrderToAProgramThatIsHeldSaysForWhatItWaits(t *testing.T) {
	first := self(t, "first", "sleep")
	first.Autostart = false
	second := self(t, "second", "sleep")
	second.After = []string{"first"}
	r := start(t, first, second)
	r.becomes("second", program.Held)
	if err := r.StartProgram(r.ctx(), "second"); err == nil || !strings.Contains(err.Error(), "waits for first") {
		t.Errorf("%v", err)
	}
	if err := r.StartProgram(r.ctx(), "first"); err != nil {
		t.Error(err)
	}
	r.becomes("second", program.Ready)
}

func TestTheStopSignalIsTheOneOfTheProgram(t *testing.T) {
	s := self(t, "x", "int")
	s.StopSignal = syscall.SIGINT
	r := start(t, s)
	r.eventually("it listens", func() bool { return strings.Contains(r.out.String(), "up") })
	r.Stop(context.Background())
	if st := r.get("x"); st.State != program.Stopped || st.Last.Signal != "" || st.Last.Code != 0 {
		t.Errorf("%+v", st)
	}
}

func TestACutStopKillsAtOnce(t *testing.T) {
	s := self(t, "x", "deaf")
	s.StopTimeout = time.Hour
	r := start(t, s)
	r.eventually("it listens", func() bool { return strings.Contains(r.out.String(), "up") })
	pid := r.get("x").PID
	cut, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.Stop(cut)
	}()
	r.becomes("x", program.Stopping)
	cancel()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("still there")
	}
	if !gone(pid) {
		t.Error("it lives")
	}
	if log := r.log.String(); !strings.Contains(log, "cut short") || strings.Contains(log, "did not end in time") {
		t.Error("the log does not say why it was killed")
	}
}

func TestAnOrderToStartAOnceProgramWaitsForItsEnd(t *testing.T) {
	good, bad, job := shell("good", "sleep 0.3; echo done"), shell("bad", "sleep 0.3; exit 7"), shell("job", "exec sleep 1000")
	good.Once, bad.Once, job.Schedule = true, true, every(24*time.Hour)
	for _, s := range []*program.Spec{&good, &bad} {
		s.Autostart, s.Restart = false, program.Never
	}
	r := start(t, good, bad, job)
	if err := r.StartProgram(r.ctx(), "good"); err != nil || !strings.Contains(r.out.String(), "good | done") {
		t.Errorf("%v: %s", err, r.out.String())
	}
	if err := r.StartProgram(r.ctx(), "bad"); err == nil || !strings.Contains(err.Error(), "bad has failed: exit code 7") {
		t.Errorf("%v", err)
	}
	if err := r.StartProgram(r.ctx(), "job"); err != nil || r.get("job").State != program.Running {
		t.Errorf("%v %s", err, r.get("job").State)
	}
}

func TestTheLastLinesAreRemembered(t *testing.T) {
	r := start(t, shell("x", "i=0; while test $i -lt 250; do echo $i; i=$((i+1)); done; until test -e go; do sleep 0.02; done; echo later >&2; exec sleep 1000"))
	r.eventually("it has written", func() bool { return strings.Contains(r.out.String(), "x | 249\n") })
	lines := r.Status(1000)[0].Output
	if len(lines) != 200 || lines[0].Text != "50" || lines[199].Text != "249" || lines[0].Stream != "stdout" {
		t.Errorf("%d lines: %+v", len(lines), lines)
	}
	if err := os.WriteFile(r.file("go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.eventually("the next one is the last", func() bool {
		last := r.Status(2)[0].Output
		return last[0].Text == "249" && last[1].Text == "later" && last[1].Stream == "stderr"
	})
}

func TestLinesThatDoNotReachTheHostsOutputAreToldOf(t *testing.T) {
	s := shell("x", "echo one; echo two >&2; exec sleep 1000")
	s.Stdout, s.Stderr = program.LogFile{Path: filepath.Join(t.TempDir(), "x.log")}, program.LogFile{Path: "/dev/null"}
	r := start(t, s, shell("y", "echo to the host; exec sleep 1000"))
	r.eventually("both were told", func() bool {
		seen := r.seen.String()
		return strings.Contains(seen, "x stdout one\n") && strings.Contains(seen, "x stderr two\n")
	})
	r.eventually("the other is there", func() bool { return r.out.String() == "y | to the host\n" })
	if strings.Contains(r.seen.String(), "host") {
		t.Error(r.seen.String())
	}
}

func TestAFloodOfLinesIsHeldToItsLimit(t *testing.T) {
	s := shell("x", "seq 1 5000; until test -e go; do sleep 0.02; done; while :; do echo later; sleep 0.1; done")
	s.OutputLimit = 100
	r := start(t, s)
	r.eventually("the flood is over", func() bool {
		last := r.Status(1)[0].Output
		return len(last) == 1 && last[0].Text == "5000"
	})
	if err := os.WriteFile(r.file("go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.eventually("a later line passes", func() bool { return strings.HasSuffix(r.out.String(), "x | later\n") })
	lines := strings.Split(strings.TrimSpace(r.out.String()), "\n")
	passed, suppressed := 0, 0
	for _, line := range lines {
		n := 0
		if _, err := fmt.Sscanf(line, "x | (guado: %d lines suppressed", &n); err == nil {
			suppressed += n
		} else if line != "x | later" {
			passed++
		}
	}
	if passed+suppressed < 5000 || passed < 500 || passed == 5000 {
		t.Errorf("%d lines passed and %d were suppressed", passed, suppressed)
	}
}

func TestLogFilesAreRotatedAndOldOnesGo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	s := shell("x", "i=0; while test $i -lt 5000; do echo "+strings.Repeat("x", 1000)+"; i=$((i+1)); done; echo to stderr >&2; exec sleep 1000")
	s.Stdout = program.LogFile{Path: path, Size: 1 << 20, Keep: 2, Compress: "none"}
	s.Stderr = s.Stdout
	r := start(t, s)
	r.eventually("all is written", func() bool {
		text, _ := os.ReadFile(path)
		return strings.HasSuffix(string(text), "to stderr\n")
	})
	r.eventually("two old files are kept", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "x-*.log"))
		return len(files) == 2
	})
	if r.out.String() != "" {
		t.Errorf("output of the host: %q", r.out.String())
	}
}

func TestALogFileThatWasMovedAwayIsMadeAnewAtReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	s := shell("x", "n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done")
	s.Stdout = program.LogFile{Path: path}
	r := start(t, s)
	written := func() bool { _, err := os.Stat(path); return err == nil }
	r.eventually("it writes", written)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Reopen(); err != nil {
		t.Fatal(err)
	}
	r.eventually("it writes a new file", written)
	r.Stop(context.Background())
	before, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Fields(string(before) + string(after)) {
		if line != strconv.Itoa(n) {
			t.Fatalf("line %d is %s: one is lost", n, line)
		}
	}
}
