// Package chaos breaks things: workers are killed and stopped, clients are slow or
// never read, disks are full. The host goes on.
package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

func start(t *testing.T, transport, server, app string) *harness.Server {
	t.Helper()
	config := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
%s
[[app]]
name = "slow"
target = "slow:application"
dir = %q
python = %q
%s
`, server, harness.Apps(), harness.Python(t, "newest"), app)
	return harness.Start(t, harness.Options{Config: config, Transport: transport})
}

func everyTransport(t *testing.T, body func(t *testing.T, transport string)) {
	for _, transport := range harness.Transports() {
		t.Run(transport, func(t *testing.T) { body(t, transport) })
	}
}

func text(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// workerPID asks the application.
func workerPID(t *testing.T, c *http.Client, s *harness.Server) int {
	t.Helper()
	pid, err := strconv.Atoi(text(t, c, s.URL+"/pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestAWorkerKilledUnderLoadCostsAtMostItsStartedRequests(t *testing.T) {
	everyTransport(t, func(t *testing.T, transport string) {
		const threads, clients, kills = 8, 64, 5
		s := start(t, transport, "", fmt.Sprintf("threads = %d", threads))
		c := harness.Client(t, "http1")
		var failed, served, wrong atomic.Int64
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for n := range clients {
			wg.Go(func() {
				payload := bytes.Repeat([]byte(fmt.Sprintf("%06d ", n)), 200)
				for {
					select {
					case <-stop:
						return
					default:
					}
					res, err := c.Post(s.URL+"/echo", "text/plain", bytes.NewReader(payload))
					if err != nil {
						failed.Add(1)
						continue
					}
					body, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					switch {
					case err != nil || res.StatusCode == 502:
						failed.Add(1)
					case res.StatusCode == 200 && bytes.Equal(body, payload):
						served.Add(1)
					default:
						wrong.Add(1)
						t.Errorf("%d %.100q", res.StatusCode, body)
					}
				}
			})
		}
		probe := harness.Client(t, "http1")
		for range kills {
			before := served.Load()
			for served.Load() < before+500 { // load is running again
				workerPID(t, probe, s)
			}
			if err := syscall.Kill(workerPID(t, probe, s), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		before := served.Load()
		for served.Load() < before+500 {
			workerPID(t, probe, s)
		}
		close(stop)
		wg.Wait()
		t.Logf("%d served, %d failed in %d kills", served.Load(), failed.Load(), kills)
		if failed.Load() > threads*kills {
			t.Errorf("%d requests failed in %d kills of a worker with %d threads", failed.Load(), kills, threads)
		}
	})
}

func TestAStoppedWorkerIsReplaced(t *testing.T) {
	everyTransport(t, func(t *testing.T, transport string) {
		s := start(t, transport, "", `ping_timeout = "2s"`)
		c := harness.Client(t, "http1")
		pid := workerPID(t, c, s)
		stop(t, pid)
		if other := workerPID(t, c, s); other == pid {
			t.Errorf("worker %d answered although it was stopped", pid)
		}
	})
}

// stop stops a process and waits until all its threads have.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for running := true; running; {
		running = false
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(tasks) == 0 {
			t.Fatalf("process %d is gone: %v", pid, err)
		}
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			_, rest, _ := strings.Cut(string(stat), ") ")
			running = running || err != nil || !strings.HasPrefix(rest, "T")
		}
	}
}

func TestGILPressureAloneNeverKills(t *testing.T) {
	everyTransport(t, func(t *testing.T, transport string) {
		s := start(t, transport, "", `ping_timeout = "2s"`)
		c := harness.Client(t, "http1")
		pid := workerPID(t, c, s)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if got := text(t, harness.Client(t, "http1"), s.URL+"/spin?s=4"); got != "spun" {
					t.Errorf("got %q", got)
				}
			})
		}
		wg.Wait()
		if other := workerPID(t, c, s); other != pid {
			t.Errorf("worker %d was replaced by %d although its watch thread answered", pid, other)
		}
	})
}

func TestABodyLargerThanTheDiskQuotaIsRefused(t *testing.T) {
	s := start(t, "", "[server.spool]\neach = \"64KiB\"\nmemory = \"256KiB\"\ndisk = \"1MiB\"", "")
	c := harness.Client(t, "http1")
	res, err := c.Post(s.URL+"/echo", "text/plain", bytes.NewReader(make([]byte, 8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 503 || !strings.Contains(string(body), "spool_full") {
		t.Errorf("%d %.200q", res.StatusCode, body)
	}
	res, err = c.Post(s.URL+"/echo", "text/plain", bytes.NewReader(make([]byte, 512<<10)))
	if err != nil {
		t.Fatal(err)
	}
	body, _ = io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 200 || len(body) != 512<<10 {
		t.Errorf("a body within the quota: %d, %d bytes", res.StatusCode, len(body))
	}
}

func TestAClientThatNeverReadsIsCutAndDelaysNobody(t *testing.T) {
	everyTransport(t, func(t *testing.T, transport string) {
		s := start(t, transport, "[server.timeouts]\nwrite_idle = \"2s\"", "threads = 2")
		c := harness.Client(t, "http1")
		conn := s.Dial()
		if _, err := io.WriteString(conn, "GET /big?n=1000000000 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil { // its thread is taken
			t.Fatal(err)
		}
		for range 100 {
			workerPID(t, c, s)
		}
		hold := make([]*http.Response, 0, 1)
		res, err := c.Get(s.URL + "/big?n=100000000") // the second thread, read to the end below
		if err != nil {
			t.Fatal(err)
		}
		hold = append(hold, res)
		for _, r := range hold {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil || n != 100000000 {
				t.Errorf("the other stream: %d bytes, %v", n, err)
			}
			_ = r.Body.Close()
		}
		// Both threads are free again once the idle client was cut.
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if got := text(t, harness.Client(t, "http1"), s.URL+"/spin?s=0.1"); got != "spun" {
					t.Errorf("got %q", got)
				}
			})
		}
		wg.Wait()
	})
}

func TestAClientThatSendsAByteASecondHoldsNoThread(t *testing.T) {
	s := start(t, "", "", "threads = 1")
	slow := s.Dial()
	if _, err := io.WriteString(slow, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	c := harness.Client(t, "http1")
	for n := range 20 { // the only thread answers others between its bytes
		if _, err := slow.Write([]byte{'x'}); err != nil {
			t.Fatal(err)
		}
		if got := text(t, c, s.URL+"/pid"); got == "" {
			t.Fatalf("no answer after byte %d", n)
		}
	}
}

func TestTenThousandIdleConnectionsCostLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 connections")
	}
	const count = 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < count+500 {
		t.Skipf("only %d descriptors are allowed here", limit.Max)
	}
	s := start(t, "", "", "")
	before := rssAnon(t, s.PID)
	for n := range count {
		conn := s.Dial()
		if _, err := io.WriteString(conn, "GET /pid HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		if res, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil); err != nil || res.StatusCode != 200 {
			t.Fatalf("connection %d: %v %v", n, res, err)
		}
	}
	cost := (rssAnon(t, s.PID) - before) / count
	t.Logf("%d bytes of host memory per idle connection", cost)
	if cost > 16<<10 {
		t.Errorf("%d bytes per idle connection", cost)
	}
	if got := text(t, harness.Client(t, "http1"), s.URL+"/pid"); got == "" {
		t.Error("no answer beside them")
	}
}

// rssAnon is the anonymous memory of a process, in bytes.
func rssAnon(t *testing.T, pid int) int {
	t.Helper()
	return statusBytes(t, pid, "RssAnon")
}

// statusBytes reads a line of /proc/PID/status.
func statusBytes(t *testing.T, pid int, key string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		var kib int
		if n, _ := fmt.Sscanf(line, key+": %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("no %s", key)
	return 0
}
