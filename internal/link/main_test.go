package link_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// TestMain is also the worker process of those tests that need one.
func TestMain(m *testing.M) {
	if os.Getenv("GUADO_LINK") == "" {
		os.Exit(m.Run())
	}
	if err := worker(os.Getenv("LINK_TEST_WORKER")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func worker(mode string) error {
	p, err := linktest.FromEnv()
	if err != nil {
		return err
	}
	switch mode {
	case "hello":
		return answerInline(p)
	case "hold":
		return p.Serve(func(r *linktest.Request) {
			_ = r.Head(200, -1)
			r.WaitCancelled()
		})
	}
	return fmt.Errorf("unknown worker %q", mode)
}

// answerInline answers each request with 200 bytes on the goroutine that reads it,
// as a pool thread does.
func answerInline(p *linktest.Peer) error {
	if _, err := p.Shake(); err != nil {
		return err
	}
	reply := linktest.AppendCommit(nil, 200, "OK", 100, make([]byte, 100),
		linktest.Field{Name: "Content-Type", Value: "text/plain; charset=utf-8"},
		linktest.Field{Name: "X-Frame-Options", Value: "DENY"})
	for {
		f, err := p.Next()
		if err != nil {
			return nil //nolint:nilerr // the host is gone
		}
		if f.Kind == link.KindRequest && p.Start(f.Stream) {
			if err := p.Send(link.KindCommit, link.End, f.Stream, 0, reply); err != nil {
				return err
			}
		}
	}
}

// process starts this test binary as a worker.
func process(t testing.TB, o link.Options, mode string) (*link.Link, *exec.Cmd) {
	t.Helper()
	l, err := link.New(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	files, env := l.Child()
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "GUADO_LINK="+env, "LINK_TEST_WORKER="+mode)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.CloseChild()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()         // it was killed
		if err := l.Close(); err != nil {
			t.Errorf("closing the link: %v", err)
		}
	})
	shake(t, l)
	return l, cmd
}
