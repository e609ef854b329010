package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// What a worker does not read while it stands still, in one of two ways: its
// interpreter is held in a call of C (its watch thread still files what comes, as far
// as credit goes), or the whole process is stopped (the ring or the socket runs full).

const (
	uploads    = 400 // more than the worker's ring (256) and the queue together may have
	uploadSize = 256 << 10
	// standing is what a flood on a worker that stands still may add to the host,
	// which is far less than the flood: the rest is on disk or with the clients.
	standing = 60 << 20
)

func TestAWorkerThatStopsReadingDelaysNobodyElse(t *testing.T) {
	everyTransport(t, func(t *testing.T, transport string) {
		s := standstill(t, transport)
		for _, kind := range []string{"wsgi", "asgi"} {
			for name, hold := range map[string]func(*testing.T, string) func(){"held in C": grip, "stopped": suspend} {
				t.Run(kind+" "+name, func(t *testing.T) { flood(t, s, kind, hold) })
			}
		}
	})
}

// standstill serves the same application twice and another one beside it.
func standstill(t *testing.T, transport string) *harness.Server {
	t.Helper()
	config := `
[server]
listen = ["127.0.0.1:0"]
[server.spool]
each = "64KiB"
memory = "4MiB"
`
	for name, more := range map[string]string{
		"wsgi": "threads = 2\nqueue = 16\nrequest_timeout = \"3s\"\nping_timeout = \"5m\"",
		"asgi": "concurrency = 8\nqueue = 16\nrequest_timeout = \"3s\"\nping_timeout = \"5m\"",
		"free": "",
	} {
		kind := strings.Replace(name, "free", "wsgi", 1)
		config += fmt.Sprintf("[[app]]\nname = %q\nkind = %q\ntarget = \"gripped:%s\"\ndir = %q\npython = %q\n%s\n[[mount]]\npath = \"/%s\"\napp = %q\n",
			name, kind, kind, harness.Apps(), harness.Python(t, "newest"), more, name, name)
	}
	return harness.Start(t, harness.Options{Config: config, Transport: transport})
}

// flood holds the worker of one mount and sends it more than it may have, while
// another mount is used.
func flood(t *testing.T, s *harness.Server, mount string, hold func(*testing.T, string) func()) {
	t.Helper()
	c := harness.Client(t, "http1")
	// The last flood has interrupted a worker, which serves until it is replaced: to hold
	// that one would hold nobody.
	soon(t, "no worker is being replaced", func() bool { return len(s.Workers()) == 3 })
	before := rssAnon(t, s.PID)
	release := hold(t, s.URL+"/"+mount)
	got := make(chan string, uploads)
	var clients sync.WaitGroup
	for range uploads {
		clients.Go(func() { got <- upload(c, s.URL+"/"+mount+"/upload") })
	}
	all := make(chan struct{})
	go func() { clients.Wait(); close(all) }()
	// However long the flood takes, the other mount answers meanwhile.
	beside, grew := harness.Client(t, "http1"), 0
	for served, over := 0, false; served < 100 || !over; served++ {
		text(t, beside, s.URL+"/free/pid")
		grew = max(grew, rssAnon(t, s.PID)-before)
		select {
		case <-all:
			over = true
		default:
		}
	}
	release()
	counts := map[string]int{}
	for range uploads {
		counts[<-got]++
	}
	t.Logf("%v, and %d KiB of host memory", counts, grew>>10)
	for outcome, n := range counts {
		switch outcome {
		case "503 queue_full", "504 deadline", strconv.Itoa(uploadSize):
		default:
			t.Errorf("%d times: %s", n, outcome)
		}
	}
	if counts["503 queue_full"] == 0 || counts["504 deadline"] == 0 {
		t.Errorf("the queue is bounded and so is the wait, and yet: %v", counts)
	}
	if grew > standing {
		t.Errorf("%d KiB of host memory", grew>>10)
	}
	served := func() bool { return upload(c, s.URL+"/"+mount+"/upload") == strconv.Itoa(uploadSize) }
	for end := time.Now().Add(time.Minute); !served(); {
		if time.Now().After(end) {
			t.Fatal("nobody is served after the worker was let go")
		}
	}
}

// upload gives the answer to a body: its text, or the status and code of a refusal.
func upload(c *http.Client, url string) string {
	res, err := c.Post(url, "application/octet-stream", bytes.NewReader(make([]byte, uploadSize)))
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	if res.StatusCode == 200 {
		return string(body)
	}
	_, code, _ := strings.Cut(string(body), "code: ")
	code, _, _ = strings.Cut(code, "\n")
	return fmt.Sprintf("%d %s", res.StatusCode, code)
}

// grip makes the worker hold its GIL and gives what ends that.
func grip(t *testing.T, mount string) (release func()) {
	t.Helper()
	said, until := fifo(t), fifo(t)
	go func() {
		res, err := http.Get(fmt.Sprintf("%s/grip?said=%s&until=%s", mount, url.QueryEscape(said.Name()), url.QueryEscape(until.Name())))
		if err == nil { // its own request is over its deadline long before
			_ = res.Body.Close()
		}
	}()
	if _, err := io.ReadFull(said, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return once(t, func() error { _, err := until.Write([]byte("x")); return err })
}

// fifo is open both ways, so that neither side waits for the other to open it.
func fifo(t *testing.T) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return f
}

// suspend stops the process of the worker and gives what lets it go on.
func suspend(t *testing.T, mount string) (release func()) {
	t.Helper()
	pid, err := strconv.Atoi(text(t, harness.Client(t, "http1"), mount+"/pid"))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, pid)
	return once(t, func() error {
		if err := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil // it was replaced meanwhile
	})
}

// once calls f when asked to, and at the end of the test when nobody has.
func once(t *testing.T, f func() error) func() {
	var done sync.Once
	call := func() {
		done.Do(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(call)
	return call
}
