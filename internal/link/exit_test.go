package link_test

import (
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

func exited(t *testing.T, l *link.Link) {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("the link did not end with its process")
	}
	if err := l.Err(); !errors.Is(err, link.ErrExited) {
		t.Errorf("the link ended with %v", err)
	}
}

// What decides about a retry: an answer that was sent counts, a request that was
// started fails, and one that was not can be tried elsewhere.
func TestAfterTheProcessEndedEachRequestKnowsWhetherItWasStarted(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		answered, started, queued := open(t, l).request(true), open(t, l).request(true), open(t, l).request(true)
		unsent := open(t, l)
		var ids []uint32
		for range 3 {
			ids = append(ids, next(t, p, link.KindRequest).Stream)
		}
		p.Start(ids[0])
		commit(t, p, ids[0], link.End, "said before the end")
		p.Start(ids[1])
		_ = p.Close() // the process dies: its descriptors close first
		l.ProcessExited()
		exited(t, l)
		if a := answered.read(); string(a.body) != "said before the end" {
			t.Errorf("the last answer was lost: %q", a.body)
		}
		for name, c := range map[string]struct {
			c    *client
			want bool
		}{"started": {started, true}, "queued": {queued, false}, "unsent": {unsent, false}} {
			if err := c.c.waitErr(func(link.Frame) bool { return true }); !errors.Is(err, link.ErrExited) {
				t.Errorf("the %s stream ended with %v", name, err)
			}
			if got := c.c.s.Started(); got != c.want {
				t.Errorf("the %s request says started: %v", name, got)
			}
			if got := c.c.s.Revoke(); got == c.want {
				t.Errorf("the %s request could be revoked: %v", name, got)
			}
		}
		if transport == link.SharedMemory {
			for _, id := range ids[1:] {
				if p.Start(id) {
					t.Error("a request could be started after the link ended")
				}
			}
		}
		for _, c := range []*client{answered, started, queued, unsent} {
			c.s.Close()
		}
		if n := l.Status().Open; n != 0 {
			t.Errorf("%d streams are open", n)
		}
	})
}

func TestAfterCorruptionNoRequestIsStartedThatMayBeRetried(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		c := open(t, l).request(true)
		id := next(t, p, link.KindRequest).Stream
		if err := p.SendRaw(frame(0, 0, 0, 0, 0, 0)); err != nil {
			t.Fatal(err)
		}
		ended(t, l, "size 0")
		// The worker still lives. Over shared memory the request was taken from it;
		// over a socket nobody can, so it counts as started.
		if transport == link.SharedMemory && p.Start(id) {
			t.Error("the worker could start a request after it was given up")
		}
		if got := c.s.Started(); got != (transport == link.Socket) {
			t.Errorf("the request says started: %v", got)
		}
		c.s.Close()
	})
}

func TestASocketThatClosesWhileItsProcessLivesEndsTheWorker(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.Socket})
	_ = p.Close()
	ended(t, l, "closed its link and runs on")
}

func TestAKilledProcessFailsOnlyWhatItHadStarted(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, cmd := process(t, link.Options{Transport: transport}, "hold")
		var clients []*client
		for range 20 {
			clients = append(clients, open(t, l).request(true))
		}
		for _, c := range clients {
			c.wait(func(f link.Frame) bool { return f.Kind == link.KindCommit })
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("the worker is not stopped: %v, %v", status, err)
		}
		var late []*client
		for range 20 {
			late = append(late, open(t, l).request(true))
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		l.ProcessExited()
		exited(t, l)
		for _, c := range clients {
			if !c.s.Started() {
				t.Error("a request with a head was not started")
			}
			c.s.Close()
		}
		for _, c := range late {
			if c.s.Started() {
				t.Error("a request was started by a stopped process")
			}
			c.s.Close()
		}
	})
}

func TestADescriptorSentBeforeTheEndIsStillTaken(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		f := tempFile(t, "last words")
		for range 100 { // whichever of the two readers is first
			l, p := pair(t, link.Options{Transport: transport, Ring: 1 << 14, Slots: 1})
			c := open(t, l).request(true)
			id := next(t, p, link.KindRequest).Stream
			commit(t, p, id, 0, "")
			settled(t, l, p)
			if err := p.SendFile(id, f, 0, 10, link.End); err != nil {
				t.Fatal(err)
			}
			l.ProcessExited()
			exited(t, l)
			a := c.read()
			if len(a.files) != 1 {
				t.Fatalf("%d files came", len(a.files))
			}
			checkFile(t, a.files[0], "last words")
			c.s.Close()
		}
	})
}

func TestCloseFreesWhoeverWaits(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		freed := make(chan struct{})
		abandoned := open(t, l).request(true)
		next(t, p, link.KindRequest)
		abandoned.s.Abandon(func() { close(freed) })
		waiting := open(t, l).request(true)
		got := make(chan error, 1)
		go func() { got <- waiting.waitErr(func(link.Frame) bool { return true }) }()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, link.ErrClosed) {
			t.Errorf("who waited got %v", err)
		}
		<-freed
		// Everything may still be called, and does nothing.
		waiting.s.Cancel(link.CancelGone)
		waiting.s.Credit(10)
		if _, err := waiting.s.Body([]byte("x"), link.BodyEnd); err == nil {
			t.Error("a closed link took a body")
		}
		waiting.s.Revoke()
		waiting.s.Close()
		l.Ping(1)
		l.Drain(time.Second)
		l.ProcessExited()
		if _, err := l.Open(waiting.x); !errors.Is(err, link.ErrClosed) {
			t.Errorf("opening gives %v", err)
		}
	})
}

// Streams come and go on many goroutines while the link dies under them: run with
// -race, and every one must end.
func TestTheLinkMayDieAtAnyMoment(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		for round := range 10 {
			l := served(t, link.Options{Transport: transport}, func(r *linktest.Request) {
				_ = r.Head(200, -1)
				if r.Write(make([]byte, 3000), link.End) != nil {
					_ = r.Peer().Send(link.KindAbort, 0, r.Stream, link.AbortCancelled, nil)
				}
			})
			var all sync.WaitGroup
			for i := range 16 {
				all.Go(func() {
					for n := 0; ; n++ {
						x := request("GET", "/")
						s, err := l.Open(x)
						if err != nil {
							return
						}
						c := &client{t: t, x: x, s: s}
						if s.Request(link.AppendRequest(nil, x, 0, true), true) == nil {
							if (n+i)%3 == 0 {
								s.Cancel(link.CancelGone)
							} else if _, err := c.tryRead(); err != nil && l.Err() == nil {
								t.Error(err)
							}
						}
						s.Close()
					}
				})
			}
			switch round % 3 {
			case 0:
				l.ProcessExited()
			case 1:
				_ = l.Close() // its error is looked at when the test ends
			default:
				s, err := l.Open(request("GET", "/"))
				if err == nil {
					s.Refuse(link.ErrCorrupt)
					s.Close()
				}
				_ = l.Close() // as above
			}
			all.Wait()
		}
	})
}
