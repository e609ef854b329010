package gate

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// answer counts what the gate itself answers.
type answer struct {
	exchange.Answer
	code string
}

func (a *answer) Begun() bool                                       { return false }
func (a *answer) Problem(_ *exchange.Exchange, p *exchange.Problem) { a.code = p.Code }
func (a *answer) Abort(error)                                       { a.code = "aborted" }

func ask(g *Gate) (x *exchange.Exchange, a *answer, done chan struct{}) {
	x, a, done = exchange.New(), &answer{}, make(chan struct{})
	x.Answer, x.Path, x.Received = a, []byte("/"), time.Now()
	go func() {
		defer close(done)
		g.Serve(x)
	}()
	return x, a, done
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func options() Options {
	return Options{Log: slog.New(slog.DiscardHandler), Hold: Hold{Requests: 10, Wait: time.Hour}}
}

func TestANewConfigurationKeepsAPauseAndWhatItHoldsTakesTheNewRoad(t *testing.T) {
	old := exchange.HandlerFunc(func(*exchange.Exchange) { t.Error("the old road was taken") })
	g := New(old, options())
	if err := g.Pause(Hold{}); err != nil {
		t.Fatal(err)
	}
	_, _, done := ask(g)
	await(t, "held", func() bool { return g.Status().Held == 1 })
	taken := make(chan struct{})
	o := options()
	o.Maintenance = true
	g.Change(exchange.HandlerFunc(func(*exchange.Exchange) { close(taken) }), o)
	if st := g.Status(); !st.Paused || !st.Maintenance {
		t.Errorf("status %+v", st)
	}
	g.SetMaintenance(false)
	g.Change(exchange.HandlerFunc(func(*exchange.Exchange) { close(taken) }), o)
	if g.Status().Maintenance {
		t.Error("the same options closed what was opened by hand")
	}
	g.Resume()
	<-taken
	<-done
}

func TestAClientThatLeavesAHeldRequestIsLetGo(t *testing.T) {
	g := New(exchange.HandlerFunc(func(*exchange.Exchange) { t.Error("it was served") }), options())
	if err := g.Pause(Hold{}); err != nil {
		t.Fatal(err)
	}
	x, a, done := ask(g)
	await(t, "held", func() bool { return g.Status().Held == 1 })
	x.Ring() // of no meaning
	x.SetGone(exchange.Closed)
	<-done
	if a.code != "aborted" || g.Status().Held != 0 {
		t.Errorf("%q, %+v", a.code, g.Status())
	}
}

func TestIdleEndsWithTheLastRequestOrWithItsContextOrWithThePause(t *testing.T) {
	release := make(chan struct{})
	g := New(exchange.HandlerFunc(func(*exchange.Exchange) { <-release }), options())
	if err := g.Idle(t.Context()); err == nil {
		t.Error("without a pause nothing becomes idle")
	}
	_, _, first := ask(g)
	await(t, "inside", func() bool { return g.Status().InFlight == 1 })
	if err := g.Pause(Hold{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Idle(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	idle := make(chan error)
	go func() { idle <- g.Idle(t.Context()) }()
	g.Resume()
	if err := <-idle; err == nil {
		t.Error("Idle goes on without a pause")
	}
	if err := g.Pause(Hold{}); err != nil {
		t.Fatal(err)
	}
	go func() { idle <- g.Idle(t.Context()) }()
	close(release)
	if err := <-idle; err != nil {
		t.Error(err)
	}
	<-first
	g.Stop()
	if err := g.Pause(Hold{}); !errors.Is(err, ErrPaused) && !errors.Is(err, ErrStopping) {
		t.Errorf("a pause of a stopped server: %v", err)
	}
}

// What an open gate costs each request.
func BenchmarkAnOpenGate(b *testing.B) {
	g := New(exchange.HandlerFunc(func(*exchange.Exchange) {}), options())
	x := exchange.New()
	x.Path = []byte("/shop/basket")
	for b.Loop() {
		g.Serve(x)
	}
}
