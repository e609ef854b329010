package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
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
