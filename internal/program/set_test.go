package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/program"
)

func TestAProgramRunsAndEndsWithItsSet(t *testing.T) {
	r := start(t, self(t, "daemon", "sleep"))
	pid := r.becomes("daemon", program.Ready).PID
	r.eventually("its output is the host's, with its name", func() bool { return r.out.String() == "daemon | up\n" })
	r.Stop(context.Background())
	if !gone(pid) || r.get("daemon").State != program.Stopped || r.out.String() != "daemon | up\ndaemon | down\n" {
		t.Errorf("%+v, output %q", r.get("daemon"), r.out.String())
	}
}

func TestAProgramThatIsKilledStartsAgain(t *testing.T) {
	r := start(t, self(t, "daemon", "sleep"))
	for n := 1; n <= 3; n++ {
		r.eventually("it is ready", func() bool { st := r.get("daemon"); return st.Starts == n && st.State == program.Ready })
		if err := syscall.Kill(r.get("daemon").PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.eventually("it is ready again", func() bool { st := r.get("daemon"); return st.Starts == 4 && st.State == program.Ready })
	if last := r.get("daemon").Last; last == nil || last.Signal != "killed" || last.Code != -1 {
		t.Errorf("last exit %+v", last)
	}
}

func TestAProgramStartsAfterThoseItComesAfterAreReadyAndEndsBeforeThem(t *testing.T) {
	migrate := shell("migrate", "echo migrated; sleep 0.2; echo done >migrated")
	migrate.Once, migrate.Restart = true, program.OnFailure
	daemon := shell("daemon", "test -f migrated || echo too early; trap 'echo daemon ends; exit' TERM; echo listening; while :; do sleep 0.05; done")
	daemon.After = []string{"migrate"}
	daemon.Ready = program.Condition{Kind: "log", Pattern: regexp.MustCompile("^listen")}
	worker := shell("worker", "trap 'echo worker ends; exit' TERM; echo works; while :; do sleep 0.05; done")
	worker.After = []string{"daemon", "migrate"}
	r := start(t, worker, daemon, migrate)
	r.becomes("worker", program.Ready)
	if st := r.get("migrate"); st.State != program.Done || st.Last.Code != 0 {
		t.Errorf("%+v", st)
	}
	r.eventually("it works", func() bool { return strings.Contains(r.out.String(), "works") })
	r.Stop(context.Background())
	want := "migrate | migrated\ndaemon | listening\nworker | works\nworker | worker ends\ndaemon | daemon ends\n"
	got := regexp.MustCompile(`.*Terminated\n`).ReplaceAllString(r.out.String(), "") // of the shell about its sleep
	if got != want {
		t.Errorf("%q", got)
	}
}

func TestAProgramThatIsNeverReadyHoldsOnlyWhatComesAfterIt(t *testing.T) {
	never := self(t, "never", "sleep")
	never.Ready = program.Condition{Kind: "file", Value: "/nonexistent/file"}
	after := self(t, "after", "sleep")
	after.After = []string{"never"}
	r := start(t, never, after, self(t, "free", "sleep"))
	r.becomes("free", program.Ready)
	if st := r.becomes("after", program.Held); len(st.HeldBy) != 1 || st.HeldBy[0] != "never" {
		t.Errorf("%+v", st)
	}
	if err := r.Await(r.ctx(), []string{"free"}); err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.Await(short, []string{"free", "never"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestAProgramThatDoesNotHearIsKilledWithItsGroup(t *testing.T) {
	s := shell("daemon", "trap '' TERM; sleep 1000 & echo $! >child; while :; do sleep 0.05; done")
	s.StopTimeout = 200 * time.Millisecond
	r := start(t, s)
	pid := r.becomes("daemon", program.Ready).PID
	child := 0
	r.eventually("it has a child", func() bool {
		text, _ := os.ReadFile(r.file("child"))
		_, err := fmt.Sscan(string(text), &child)
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	r.Stop(context.Background())
	if !gone(pid) {
		t.Error("it lives")
	}
	r.eventually("its child is gone", func() bool { return gone(child) })
}

func TestWhatAProgramHasStartedMayFinishAfterItAtAStop(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who is in a process group")
	}
	s := shell("pipe", "(trap 'sleep 0.3; echo >finished; exit' TERM; echo up; while :; do sleep 0.05; done) | cat; echo not reached")
	r := start(t, s)
	r.eventually("it is up", func() bool { return strings.Contains(r.out.String(), "up") })
	r.Stop(context.Background())
	if _, err := os.Stat(r.file("finished")); err != nil || strings.Contains(r.log.String(), "did not end in time") {
		t.Errorf("output %q", r.out.String())
	}
}

func TestWhatAProgramLeavesBehindWhenItEndsByItselfIsKilled(t *testing.T) {
	s := shell("x", "sleep 1000 & echo $! >child; exit 0")
	s.Restart = program.Never
	r := start(t, s)
	r.becomes("x", program.Done)
	text, err := os.ReadFile(r.file("child"))
	if err != nil {
		t.Fatal(err)
	}
	child := 0
	_, _ = fmt.Sscan(string(text), &child)
	r.eventually("its child is gone", func() bool { return child > 0 && gone(child) })
}

func TestALineOfJSONPassesAsItIs(t *testing.T) {
	r := start(t, shell("x", `echo '{"level": "info"}'; echo '{broken}'; exec sleep 1000`))
	r.eventually("both lines are there", func() bool { return r.out.String() == "{\"level\": \"info\"}\nx | {broken}\n" })
	if got := r.passed.String(); got != "x {\"level\": \"info\"}\nx {broken}\n" {
		t.Errorf("they were told of as %q", got)
	}
}

func TestProgramsAreReplacedAndTheOthersRunOn(t *testing.T) {
	daemon, worker, old := self(t, "daemon", "sleep"), self(t, "worker", "sleep"), self(t, "old", "sleep")
	worker.After = []string{"daemon"}
	r := start(t, daemon, worker, old, self(t, "same", "sleep"))
	before := map[string]int{}
	for _, name := range []string{"daemon", "worker", "old", "same"} {
		before[name] = r.becomes(name, program.Ready).PID
	}
	changed := self(t, "daemon", "int")
	changed.StopSignal = syscall.SIGINT
	fresh := self(t, "fresh", "sleep")
	fresh.After = []string{"daemon"}
	changed.Dir, fresh.Dir = r.dir, r.dir
	same := self(t, "same", "sleep")
	r.Replace([]program.Spec{changed, worker, same, fresh}, func(name string) bool { return name == "daemon" })
	r.becomes("fresh", program.Ready)
	if st := r.Status(0); len(st) != 4 || st[0].Name != "daemon" || st[3].Name != "fresh" {
		t.Errorf("%+v", st)
	}
	for name, pid := range before {
		kept := name == "worker" || name == "same"
		if kept != !gone(pid) {
			t.Errorf("%s: process %d gone: %t", name, pid, gone(pid))
		}
		if kept && r.get(name).PID != pid {
			t.Errorf("%s was started anew", name)
		}
	}
	r.Stop(context.Background())
	r.Replace([]program.Spec{old}, func(string) bool { return true })
	if st := r.Status(0); len(st) != 4 {
		t.Errorf("after the stop: %+v", st)
	}
}

func TestProgramsProveThemselvesOrSayWhatIsWrong(t *testing.T) {
	migrate := shell("migrate", "exit 0")
	migrate.Once, migrate.Restart = true, program.OnFailure
	later := self(t, "later", "sleep")
	later.Autostart = false
	fails := shell("fails", "exit 3")
	fails.StartTime = time.Minute
	slow := self(t, "slow", "sleep")
	slow.Ready = program.Condition{Kind: "file", Value: "/nonexistent/file"}
	held := self(t, "held", "sleep")
	held.After = []string{"slow"}
	r := start(t, self(t, "daemon", "sleep"), migrate, later, fails, slow, held)
	if err := r.Prove(r.ctx(), []string{"daemon", "migrate", "later"}, time.Minute); err != nil {
		t.Error(err)
	}
	if st := r.get("migrate"); st.State != program.Done {
		t.Errorf("a once program that has not ended: %+v", st)
	}
	for name, want := range map[string]string{
		"fails": "program fails could not be started: exit code 3", "slow": "program slow is not ready yet", "held": "program held waits for slow",
	} {
		patience := time.Minute
		if name != "fails" {
			patience = time.Millisecond
		}
		if err := r.Prove(r.ctx(), []string{name}, patience); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	gone, cancel := context.WithCancel(r.ctx())
	cancel()
	if err := r.Prove(gone, []string{"slow"}, time.Minute); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
