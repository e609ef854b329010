package link_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
)

func say(t *testing.T, l *link.Link) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := l.Hello(ctx, link.Hello{Version: "0.1.0"})
	return err
}

func TestAWorkerThatCannotBootSaysWhy(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		traceback := strings.Repeat("  File \"shop.py\"\n", 10000) // several frames
		if err := p.SendJSON(link.KindFailed, link.BootError{
			Stage: "import", App: "shop", Message: "No module named 'shop'", Traceback: traceback, Hint: "add it",
		}); err != nil {
			t.Fatal(err)
		}
		l.ProcessExited() // it exits after it has said so
		var failed *link.BootError
		if err := say(t, l); !errors.As(err, &failed) {
			t.Fatalf("Hello gives %v", err)
		}
		if failed.Stage != "import" || failed.Traceback != traceback || failed.Hint != "add it" {
			t.Errorf("the failure came as %s: %s", failed.Stage, failed)
		}
	})
}

func TestAWorkerOfAnotherProtocolIsRefusedWithBothVersions(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		if err := p.SendJSON(link.KindReady, link.Ready{Protocol: 7, Version: "9.9"}); err != nil {
			t.Fatal(err)
		}
		var failed *link.BootError
		err := say(t, l)
		if !errors.As(err, &failed) || failed.Stage != "handshake" {
			t.Fatalf("Hello gives %v", err)
		}
		for _, want := range []string{"protocol 7", "9.9", "host 1"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %q", err, want)
			}
		}
		<-l.Done()
	})
}

func TestABootThatSaysNothingEndsWithItsDeadline(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			if _, err := p.Hello(); err != nil {
				t.Error(err)
			}
			cancel()
		}()
		if _, err := l.Hello(ctx, link.Hello{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Hello gives %v", err)
		}
	})
}

func TestABootThatDiesOrTalksNonsenseIsAnError(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, _ := pair(t, link.Options{Transport: transport})
		l.ProcessExited()
		if err := say(t, l); !errors.Is(err, link.ErrExited) {
			t.Errorf("after the end of the process Hello gives %v", err)
		}
		for _, kind := range []link.Kind{link.KindReady, link.KindFailed} {
			l, p := pair(t, link.Options{Transport: transport})
			send(t, p, kind, 0, 0, 0, []byte("nonsense"))
			if err := say(t, l); !errors.Is(err, link.ErrCorrupt) {
				t.Errorf("after a senseless %v Hello gives %v", kind, err)
			}
		}
		l, p := pair(t, link.Options{Transport: transport})
		for range 5 {
			send(t, p, link.KindReady, link.More, 0, 0, make([]byte, 60000))
		}
		ended(t, l, "more than 262144")
	})
}

func TestPingAndDrainReachTheWorker(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		l.Ping(42)
		if f := next(t, p, link.KindPing); f.Arg != 42 {
			t.Errorf("PING %d", f.Arg)
		}
		send(t, p, link.KindPong, 0, 0, 42, nil)
		until(t, "PONG", func() bool { n, at := l.LastPong(); return n == 42 && !at.IsZero() })
		l.Drain(1500 * time.Millisecond)
		if f := next(t, p, link.KindDrain); f.Arg != 1500 || f.Stream != 0 {
			t.Errorf("DRAIN %d", f.Arg)
		}
	})
}

func TestLogMessagesComeInOrderWithTheirExchange(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		type line = link.LogMessage
		got := make(chan line, 10)
		l.Logs(func(stream uint32) string { return fmt.Sprint("exchange ", stream) }, func(m line) { got <- m })
		send(t, p, link.KindLog, link.More, 77, link.LogError, []byte("Trace"))
		send(t, p, link.KindLog, 0, 0, link.LogInfo, []byte("between"))
		send(t, p, link.KindLog, 0, 77, link.LogError, []byte("back"))
		for _, want := range []line{{0, "", link.LogInfo, "between"}, {77, "exchange 77", link.LogError, "Traceback"}} {
			if g := <-got; g != want {
				t.Errorf("got %+v, not %+v", g, want)
			}
		}
		// What came before the end is still handed out.
		send(t, p, link.KindLog, 0, 0, link.LogWarning, []byte("last"))
		l.ProcessExited()
		<-l.Done()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if g := <-got; g.Text != "last" {
			t.Errorf("got %+v", g)
		}
	})
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for _, o := range []link.Options{
		{Ring: 1000}, {Ring: 2048}, {Ring: 1<<20 + 8}, {Slots: -1}, {Slots: 1<<16 + 1}, {Transport: "pigeon"},
	} {
		if l, err := link.New(o); err == nil {
			t.Errorf("%+v is accepted", o)
			_ = l.Close() // the test has failed already
		}
	}
}

// The document of the wire is what a worker in another language would be written from.
func TestEachKeyOfTheHandshakeIsInTheProtocol(t *testing.T) {
	text, err := os.ReadFile("../../protocol/link.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, message := range map[string]any{
		"HELLO":  link.Hello{Apps: []link.App{{}}, Executors: []link.Executor{{Bypass: true}}},
		"READY":  link.Ready{Apps: []link.ReadyApp{{}}},
		"FAILED": link.BootError{},
	} {
		encoded, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		line := ""
		for l := range strings.Lines(string(text)) {
			if strings.HasPrefix(l, name+": `{") {
				line = l
			}
		}
		// HELLO takes two lines.
		if _, rest, ok := strings.Cut(string(text), line); ok {
			next, _, _ := strings.Cut(rest, "\n")
			line += next
		}
		for _, key := range regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(string(encoded), -1) {
			if !strings.Contains(line, `"`+key[1]+`":`) {
				t.Errorf("%s has the key %q, which protocol/link.md does not name", name, key[1])
			}
		}
	}
}
