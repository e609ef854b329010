package guado_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

// newStuck is a server of an application that does not answer in time.
func newStuck(t *testing.T, transport, kind string, change func(*guado.App)) *stopping {
	t.Helper()
	deadline := guado.Duration(500 * time.Millisecond)
	return newStoppingOf(t, transport, "stuck", kind, func(a *guado.App) {
		a.RequestTimeout, a.Threads, a.DrainMax = &deadline, 2, guado.Duration(300*time.Millisecond)
		change(a)
	}, func(c *guado.Config) { c.Server.ExitTimeout = guado.Duration(time.Second) })
}

// worker is the process that answers now.
func (s *stopping) worker() string {
	s.t.Helper()
	var pid string
	eventually(s.t, "a worker answers", func() bool {
		status, body, err := s.do("GET", "/pid", "")
		pid = body
		return err == nil && status == 200
	})
	return pid
}

// replaced waits until another process than before answers.
func (s *stopping) replaced(before string) {
	s.t.Helper()
	eventually(s.t, "another process answers", func() bool { return s.worker() != before })
}

// timesOut sends a request that does not end in time.
func (s *stopping) timesOut(path string) {
	s.t.Helper()
	if status, body, err := s.do("GET", path, ""); err != nil || status != 504 || !strings.Contains(body, "deadline") {
		s.t.Errorf("%s: %d %q %v", path, status, body, err)
	}
}

// How the application was interrupted, or what the log shows of one that could not be.
// More kinds of work are in python/tests/test_interrupt.py.
func TestAtItsDeadlineARequestIsInterruptedAndItsWorkerReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	for _, c := range []struct{ kind, path, event, log string }{
		{"wsgi", "/loop", "RequestTimeout", "interrupted at its deadline"},
		{"wsgi", "/sleep", "", "time.sleep(600)"},
		{"wsgi", "/gil", "", "in gil"},
		{"asgi", "/wait", "CancelledError", "interrupted at its deadline"},
		{"asgi", "/loop", "RequestTimeout", "interrupted at its deadline"},
		{"asgi", "/sleep", "", "time.sleep(600)"},
	} {
		t.Run(c.kind+c.path, func(t *testing.T) {
			s := newStuck(t, "auto", c.kind, func(a *guado.App) {
				if c.event == "" {
					// The stack is logged before the worker is ended.
					a.DrainMax = guado.Duration(patience)
				}
			})
			before := s.worker()
			s.timesOut(c.path)
			eventually(t, "the log shows it: "+c.log, func() bool { return strings.Contains(s.log.String(), c.log) })
			s.replaced(before)
			if c.event != "" {
				eventually(t, "the application is told by "+c.event, func() bool { return s.said(c.event) })
			}
			if log := s.log.String(); !strings.Contains(log, "reason=interrupted") {
				t.Error("the log does not say why the worker was replaced")
			}
		})
	}
}

func TestTheOtherRequestsOfAnInterruptedWorkerFinishFirst(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		s := newStuck(t, transport, "wsgi", func(a *guado.App) { a.DrainMax = guado.Duration(time.Minute) })
		before := s.worker()
		sibling := make(chan string, 1)
		go func() {
			status, body, err := s.do("GET", "/held", "")
			sibling <- fmt.Sprint(status, " ", body, " ", err)
		}()
		eventually(t, "the sibling is at the application", func() bool { return s.said("held") })
		s.timesOut("/loop")
		eventually(t, "the worker is to be replaced", func() bool { return strings.Contains(s.log.String(), "worker is recycled") })
		if err := os.Remove(s.hold); err != nil {
			t.Fatal(err)
		}
		if got := <-sibling; got != "200 held by "+before+" <nil>" {
			t.Errorf("the sibling got %q from worker %s", got, before)
		}
		s.replaced(before)
	})
}

// Or one request that takes too long would stop the application for as long as it boots.
func TestTheOnlyWorkerServesUntilItsSuccessorIsReady(t *testing.T) {
	s := newStuck(t, "auto", "wsgi", func(a *guado.App) { a.DrainMax = guado.Duration(time.Minute) })
	before := s.worker()
	boot := s.hold + ".boot"
	if err := os.WriteFile(boot, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.timesOut("/loop")
	eventually(t, "the successor boots", func() bool { return s.said("boots") })
	if now := s.worker(); now != before {
		t.Errorf("worker %s answers, not %s", now, before)
	}
	if err := os.Remove(boot); err != nil {
		t.Fatal(err)
	}
	s.replaced(before)
}

func TestAWorkerThatCannotBeInterruptedIsEndedAfterDrainMax(t *testing.T) {
	s := newStuck(t, "auto", "wsgi", func(a *guado.App) { a.DrainMax = guado.Duration(100 * time.Millisecond) })
	before := s.worker()
	sibling := make(chan error, 1)
	go func() { // its answer has begun: it is cut
		_, _, err := s.do("GET", "/held", "")
		sibling <- err
	}()
	eventually(t, "the sibling is at the application", func() bool { return s.said("held") })
	s.timesOut("/sleep")
	s.replaced(before)
	if err := <-sibling; err == nil {
		t.Error("an answer that was cut came to a clean end")
	}
}
