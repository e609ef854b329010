package calls_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

const patience = 60 * time.Second

func transports() []string {
	if runtime.GOOS == "linux" {
		return []string{link.SharedMemory, link.Socket}
	}
	return []string{link.Socket}
}

// executors are those of the host: they hear what is theirs.
type executors struct {
	called    chan link.Call
	cancelled chan uint32
	ended     chan struct{}
}

func (e *executors) Call(_ uint32, c link.Call) { e.called <- c }
func (e *executors) Cancel(id uint32)           { e.cancelled <- id }
func (e *executors) End()                       { close(e.ended) }

// rig is a worker that calls a mux over a real link.
type rig struct {
	t         *testing.T
	link      *link.Link
	peer      *linktest.Peer
	executors *executors
	replies   chan answer
	closed    bool
}

// answer is a REPLY.
type answer struct {
	id     uint32
	status uint16
	code   string
	data   string
}

func work(t *testing.T, transport string, m *calls.Mux) *rig {
	t.Helper()
	l, err := link.New(link.Options{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	p, err := linktest.Open(l.Child())
	if err != nil {
		t.Fatal(err)
	}
	l.CloseChild()
	r := &rig{
		t: t, link: l, peer: p, replies: make(chan answer, 8192),
		executors: &executors{make(chan link.Call, 8), make(chan uint32, 8), make(chan struct{})},
	}
	l.Calls(m.Callee(l, calls.Caller{Group: "shop", Slot: "p01"}, r.executors))
	read := make(chan struct{})
	go func() {
		defer close(read)
		r.read()
	}()
	t.Cleanup(func() {
		r.end()
		_ = p.Close()
		<-read
		m.Wait()
	})
	return r
}

// read files replies until the link ends.
func (r *rig) read() {
	var whole []byte
	for {
		f, err := r.peer.Next()
		if err != nil {
			return
		}
		if f.Kind != link.KindReply {
			continue // PING
		}
		whole = append(whole, f.Payload...)
		if f.Flags&link.More != 0 {
			continue
		}
		n := int(binary.LittleEndian.Uint16(whole[2:]))
		r.replies <- answer{f.Arg, binary.LittleEndian.Uint16(whole), string(whole[8 : 8+n]), string(whole[8+n:])}
		whole = nil
	}
}

func (r *rig) end() {
	if !r.closed {
		r.closed = true
		if err := r.link.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

// call sends CALL.
func (r *rig) call(id uint32, what uint16, timeout uint32, verb string, data []byte) {
	r.t.Helper()
	b := binary.LittleEndian.AppendUint16(nil, what)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(verb)))
	b = binary.LittleEndian.AppendUint32(b, timeout)
	b = append(append(b, verb...), data...)
	flags := link.More
	for len(b) > 0 {
		n := min(len(b), 48<<10)
		if n == len(b) {
			flags = 0
		}
		if err := r.peer.Send(link.KindCall, flags, 0, id, b[:n]); err != nil {
			r.t.Fatal(err)
		}
		b = b[n:]
	}
}

func (r *rig) ask(id uint32, verb, data string) { r.call(id, link.CallHost, 0, verb, []byte(data)) }

func (r *rig) want(want answer) {
	r.t.Helper()
	if got := receive(r.t, r.replies); got != want {
		r.t.Errorf("%+v, want %+v", got, want)
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// each runs a test over every transport.
func each(t *testing.T, body func(t *testing.T, transport string)) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) { body(t, transport) })
	}
}

func TestAVerbIsAnsweredWithItsResultAndAnErrorWithItsCode(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		m := calls.New()
		m.Handle("who", func(_ context.Context, c calls.Caller, data []byte) (any, error) {
			return map[string]string{"group": c.Group, "slot": c.Slot, "said": string(data)}, nil
		})
		m.Handle("nothing", func(context.Context, calls.Caller, []byte) (any, error) { return nil, nil })
		m.Handle("refuse", func(context.Context, calls.Caller, []byte) (any, error) {
			return nil, fmt.Errorf("wrapped: %w", calls.Errorf(409, "head_sent", "the answer of %d has begun", 7))
		})
		m.Handle("fail", func(context.Context, calls.Caller, []byte) (any, error) { return nil, errors.New("disk full") })
		m.Handle("odd", func(context.Context, calls.Caller, []byte) (any, error) { return make(chan int), nil })
		m.Handle("read", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
			return nil, calls.Decode(data, &struct{}{})
		})
		r := work(t, transport, m)
		r.ask(1, "who", "<a&b>")
		r.want(answer{1, 200, "", `{"group":"shop","said":"<a&b>","slot":"p01"}`})
		r.ask(2, "nothing", "")
		r.want(answer{2, 200, "", "{}"})
		r.ask(3, "refuse", "")
		r.want(answer{3, 409, "head_sent", "the answer of 7 has begun"})
		r.ask(4, "fail", "")
		r.want(answer{4, 500, "failed", "disk full"})
		r.ask(5, "wh", "")
		r.want(answer{5, 404, "unknown_call", `the host knows no call "wh"`})
		r.ask(6, "odd", "")
		if got := receive(t, r.replies); got.status != 500 || !strings.Contains(got.data, "as JSON") {
			t.Errorf("%+v", got)
		}
		r.ask(7, "read", "[")
		if got := receive(t, r.replies); got.code != "bad_call" || got.status != 400 {
			t.Errorf("%+v", got)
		}
		r.call(8, link.CallExecute, 0, "cpu", []byte("PICKLE"))
		if c := receive(t, r.executors.called); c.Name != "cpu" {
			t.Errorf("the executors got %+v", c)
		}
	})
}

func TestAllWhoRegisterAVerbHearOfIt(t *testing.T) {
	m := calls.New()
	heard := make(chan string, 4)
	hear := func(name string, err error) calls.Func {
		return func(context.Context, calls.Caller, []byte) (any, error) {
			heard <- name
			return name, err
		}
	}
	m.Handle("declare", hear("one", nil))
	m.Handle("declare", hear("two", nil))
	m.Handle("broken", hear("three", errors.New("no")))
	m.Handle("broken", hear("four", nil))
	r := work(t, link.Socket, m)
	r.ask(1, "declare", "")
	r.want(answer{1, 200, "", `"two"`})
	r.ask(2, "broken", "")
	r.want(answer{2, 500, "failed", "no"})
	for _, want := range []string{"one", "two", "three"} {
		if got := receive(t, heard); got != want {
			t.Errorf("heard by %s, want %s", got, want)
		}
	}
	if len(heard) != 0 {
		t.Errorf("an error did not end it: heard by %s", <-heard)
	}
	if got := strings.Join(m.Verbs(), " "); got != "broken declare" {
		t.Errorf("verbs: %s", got)
	}
}

func TestTheCallsOfAWorkerAreAnsweredInTheirOrderAndThoseThatWaitBesideThem(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		m := calls.New()
		let := make(chan struct{})
		m.HandleWaiting("wait", func(ctx context.Context, _ calls.Caller, _ []byte) (any, error) {
			select {
			case <-let:
				return "waited", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		const many = 2000
		ran := make(chan string, many)
		m.Handle("note", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
			ran <- string(data)
			return nil, nil
		})
		r := work(t, transport, m)
		r.ask(5000, "wait", "")
		for i := range many {
			r.ask(uint32(i), "note", fmt.Sprint(i))
		}
		for i := range many {
			if got := receive(t, r.replies); got.id != uint32(i) || got.status != 200 {
				t.Fatalf("reply %d: %+v", i, got)
			}
			if got := receive(t, ran); got != fmt.Sprint(i) {
				t.Fatalf("call %s ran as number %d", got, i)
			}
		}
		close(let)
		r.want(answer{5000, 200, "", `"waited"`})
	})
}

func TestTheCallsOfAWorkerAreBoundedInNumberAndBytes(t *testing.T) {
	m := calls.New()
	let := make(chan struct{})
	m.HandleWaiting("wait", func(context.Context, calls.Caller, []byte) (any, error) {
		<-let
		return nil, nil
	})
	r, other := work(t, link.Socket, m), work(t, link.Socket, m)
	for i := range 4096 {
		r.ask(uint32(i), "wait", "")
	}
	r.ask(4096, "wait", "")
	r.want(answer{4096, 503, "queue_full", "wait: this worker has 4096 calls under way already"})
	half := bytes.Repeat([]byte("x"), 32<<20)
	other.call(1, link.CallHost, 0, "wait", half)
	other.call(2, link.CallHost, 0, "wait", half)
	other.ask(3, "wait", "y")
	other.want(answer{3, 503, "queue_full", "wait: the calls of this worker hold 64 MiB already"})
	other.ask(1, "wait", "")
	other.want(answer{1, 503, "queue_full", "wait: a call with this number is under way"})
	other.call(4, link.CallHost, 0, "wait", append(half, append(half, 'z')...))
	other.want(answer{4, 413, "call_too_large", "wait with more than 64 MiB"})
	close(let)
	for range 2 {
		if got := receive(t, other.replies); got.status != 200 {
			t.Errorf("%+v", got)
		}
	}
}

func TestACancelledCallIsNotRunAndOneThatWaitsEnds(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		m := calls.New()
		let, runs, why := make(chan struct{}), make(chan string, 8), make(chan error, 1)
		m.Handle("block", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
			runs <- string(data)
			<-let
			return nil, nil
		})
		m.HandleWaiting("wait", func(ctx context.Context, _ calls.Caller, _ []byte) (any, error) {
			runs <- "waits"
			<-ctx.Done()
			why <- ctx.Err()
			return nil, ctx.Err()
		})
		r := work(t, transport, m)
		cancel := func(id uint32) {
			if err := r.peer.Send(link.KindCallCancel, 0, 0, id, nil); err != nil {
				t.Fatal(err)
			}
		}
		r.ask(1, "block", "first")
		receive(t, runs)
		r.ask(2, "block", "second")
		r.ask(3, "block", "third")
		cancel(2)
		r.ask(4, "wait", "")
		receive(t, runs)
		cancel(4)
		if err := receive(t, why); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel(5)
		if id := receive(t, r.executors.cancelled); id != 5 {
			t.Errorf("the executors heard of %d", id)
		}
		close(let)
		r.want(answer{1, 200, "", "{}"})
		if got := receive(t, runs); got != "third" {
			t.Errorf("then ran %q", got)
		}
		r.want(answer{3, 200, "", "{}"})
		r.call(6, link.CallHost, 1, "wait", nil) // of 1 ms
		if err := receive(t, why); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		r.want(answer{6, 504, "deadline", "not within the time of the call"})
	})
}

func TestWhatAWorkerDeclaredIsForgottenBehindItsLastCall(t *testing.T) {
	each(t, func(t *testing.T, transport string) {
		m := calls.New()
		let, story := make(chan struct{}), make(chan string, 8)
		m.Handle("declare", func(ctx context.Context, c calls.Caller, _ []byte) (any, error) {
			story <- "declares"
			<-ctx.Done()
			<-let
			story <- fmt.Sprint("declared ", c.Worker)
			return nil, nil
		})
		seen := make(chan struct{}, 1)
		m.HandleWaiting("seen", func(context.Context, calls.Caller, []byte) (any, error) {
			seen <- struct{}{}
			return nil, nil
		})
		m.HandleEnd(func(c calls.Caller) { story <- fmt.Sprint("forgotten ", c.Worker) })
		r := work(t, transport, m)
		r.ask(1, "declare", "")
		r.ask(2, "declare", "")
		r.ask(3, "seen", "") // once it is, the one before it waits in the host
		receive(t, story)
		receive(t, seen)
		r.end()
		<-r.executors.ended
		close(let)
		for _, want := range []string{"declared 1", "declares", "declared 1", "forgotten 1"} {
			if got := receive(t, story); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		quiet := work(t, transport, m)
		quiet.end()
		if got := receive(t, story); got != "forgotten 2" {
			t.Error(got)
		}
	})
}
