package program_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/program"
)

func TestAProgramIsReadyWhenItsConditionIsMet(t *testing.T) {
	for kind, c := range map[string]struct {
		script string // what makes it ready
		ready  func(dir string) program.Condition
	}{
		"file": {"echo ready >state", func(dir string) program.Condition {
			return program.Condition{Kind: "file", Value: filepath.Join(dir, "state")}
		}},
		"log": {"echo server is up >&2", func(string) program.Condition {
			return program.Condition{Kind: "log", Pattern: regexp.MustCompile("is up$")}
		}},
		"notify": {"ROLE=notify " + os.Args[0] + " -test.run=^$", func(string) program.Condition {
			return program.Condition{Kind: "notify"}
		}},
	} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "state"), []byte("of an earlier run"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := shell("x", "until test -e go; do sleep 0.02; done; "+c.script+"; exec sleep 1000")
			s.Dir, s.Ready = dir, c.ready(dir)
			r := start(t, s)
			r.becomes("x", program.Starting)
			r.eventually("the process runs", func() bool { return r.get("x").PID != 0 })
			if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			r.becomes("x", program.Ready)
			if strings.Count(r.log.String(), "program is ready") != 1 {
				t.Error(r.log.String())
			}
		})
	}
}

func TestAProgramIsReadyWhenItAcceptsConnections(t *testing.T) {
	dir, err := os.MkdirTemp("", "ready") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	for kind, address := range map[string]string{"tcp": address, "unix": filepath.Join(dir, "s")} {
		t.Run(kind, func(t *testing.T) {
			s := self(t, "x", "listen")
			env := s.Env
			s.Env = func() ([]string, error) {
				all, err := env()
				return append(all, "NETWORK="+kind, "ADDRESS="+address), err
			}
			s.Ready = program.Condition{Kind: kind, Value: address}
			r := start(t, s)
			r.eventually("the process runs", func() bool { return strings.Contains(r.out.String(), "not yet") })
			if st := r.get("x"); st.State != program.Starting {
				t.Errorf("%+v", st)
			}
			if err := os.WriteFile(r.file("go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			r.becomes("x", program.Ready)
		})
	}
}

func TestWhatAProgramSaysOfItselfIsShown(t *testing.T) {
	s := self(t, "x", "notify-sleep")
	s.Ready = program.Condition{Kind: "notify"}
	r := start(t, s)
	r.becomes("x", program.Ready)
	r.eventually("its status is shown", func() bool { return r.get("x").Text == "3 of 7 tasks" })
}

func TestAPortThatIsTakenAlreadyIsLogged(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	s := self(t, "x", "sleep")
	s.Ready = program.Condition{Kind: "tcp", Value: other.Addr().String()}
	r := start(t, s)
	r.becomes("x", program.Ready)
	if !strings.Contains(r.log.String(), "something else listens already") {
		t.Error(r.log.String())
	}
}
