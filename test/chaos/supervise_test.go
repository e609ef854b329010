package chaos

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// faulty starts a host with an application for each mode, mounted at its name; a mode
// may have keys of its own behind a colon.
func faulty(t *testing.T, server string, modes ...string) *harness.Server {
	t.Helper()
	config := "[server]\nlisten = [\"127.0.0.1:0\"]\n" + server
	for _, mode := range modes {
		mode, keys, _ := strings.Cut(mode, ":")
		config += fmt.Sprintf("[[app]]\nname = %q\ntarget = \"faulty:application\"\ndir = %q\npython = %q\nenv = {MODE = %q}\n%s\n[[mount]]\npath = \"/%s\"\napp = %q\n",
			mode, harness.Apps(), harness.Python(t, "newest"), mode, keys, mode, mode)
	}
	return harness.Start(t, harness.Options{Config: config})
}

// dead reports whether a process has ended; one that nobody reaps counts as ended.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) != nil
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func TestApplicationsThatMisbehaveLeaveTheOthersServing(t *testing.T) {
	s := faulty(t, "", "good", "import:freeze_after = 3", "second", "noisy:output_limit = 100")
	c := harness.Client(t, "http1")
	good := text(t, c, s.URL+"/good")
	s.WaitLog(`worker is frozen.* slot=p02`, time.Minute)
	s.WaitLog(`exit status 8`, time.Minute)
	if text(t, c, s.URL+"/noisy") == "" {
		t.Error("an application that prints much does not answer")
	}
	s.WaitLog(`lines suppressed`, time.Minute)
	if n := strings.Count(s.Log(), "| noise "); n > 25_000 {
		t.Errorf("%d of 50000 lines were passed on", n)
	}
	if !strings.Contains(s.Log(), "about to fail") {
		t.Error("the last lines of the frozen worker are not shown")
	}
	if res, err := c.Get(s.URL + "/import"); err != nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the frozen application: %v %v", res, err)
	} else {
		_ = res.Body.Close()
	}
	if now := text(t, c, s.URL+"/good"); now != good {
		t.Errorf("the good one was worker %s and is %s", good, now)
	}
}

func TestAWorkerThatLeaksIsReplacedWithoutALostRequest(t *testing.T) {
	s := faulty(t, "", "leaky:memory_soft = \"100MiB\"\nmemory_samples = 1")
	c := harness.Client(t, "http1")
	seen := map[string]bool{}
	soon(t, "three workers have answered", func() bool {
		seen[text(t, c, s.URL+"/leaky")] = true // it must be a pid, and no error
		return len(seen) >= 3
	})
	for pid := range seen {
		if strings.ContainsFunc(pid, func(r rune) bool { return r < '0' || r > '9' }) {
			t.Errorf("an answer was %q", pid)
		}
	}
	if !strings.Contains(s.Log(), "reason=memory") {
		t.Error("the log does not say why")
	}
}

func TestAWorkerIsReplacedAfterItsRequestsWithoutALostOne(t *testing.T) {
	s := faulty(t, "", "good:max_requests = 20\nmax_requests_jitter = 10\nworkers = 2")
	c := harness.Client(t, "http1")
	seen := map[string]bool{}
	soon(t, "five workers have answered", func() bool {
		pid := text(t, c, s.URL+"/good")
		if strings.Contains(pid, " ") {
			t.Fatal(pid)
		}
		seen[pid] = true
		return len(seen) >= 5
	})
}

func TestAWorkerThatKeepsTheGILForEverIsReplaced(t *testing.T) {
	s := faulty(t, "", "gil:ping_timeout = \"3s\"\nhang_timeout = \"1s\"")
	c := harness.Client(t, "http1")
	before := text(t, c, s.URL+"/gil")
	res, err := c.Get(s.URL + "/gil/hold")
	if err != nil || res.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v %v", res, err)
	}
	_ = res.Body.Close()
	if after := text(t, c, s.URL+"/gil"); after == before {
		t.Error("the same worker answers")
	}
	if log := s.Log(); !strings.Contains(log, "worker hangs") || !strings.Contains(log, "faulty.py") {
		t.Error("its stacks are not in the log")
	}
}

func TestAWorkerWhoseLoopIsBlockedForEverIsReplaced(t *testing.T) {
	s := harness.Start(t, harness.Options{Config: fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
[[app]]
target = "faulty:blocked"
dir = %q
python = %q
env = {MODE = "loop"}
ping_timeout = "3s"
hang_timeout = "1s"
`, harness.Apps(), harness.Python(t, "newest"))})
	c := harness.Client(t, "http1")
	before := text(t, c, s.URL)
	if res, err := c.Get(s.URL + "/block"); err != nil || res.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v %v", res, err)
	} else {
		_ = res.Body.Close()
	}
	if after := text(t, c, s.URL); after == before || !strings.Contains(s.Log(), "event loop is blocked") {
		t.Errorf("worker %s, then %s", before, after)
	}
}

func TestASlowRequestIsToldWithItsStackAndGoesOn(t *testing.T) {
	s := faulty(t, "", "slow:slow_request = \"1s\"")
	if pid := text(t, harness.Client(t, "http1"), s.URL+"/slow"); pid == "" || strings.Contains(pid, " ") {
		t.Errorf("%q", pid)
	}
	s.WaitLog(`slow request.*app=slow`, time.Minute)
	s.WaitLog(`faulty.py", line \d+ in application`, time.Minute)
}

func TestAWorkerThatDoesNotEndPrintsItsStacksAndIsKilled(t *testing.T) {
	s := faulty(t, "graceful_timeout = \"1s\"\nexit_timeout = \"1s\"\n", "deaf")
	c := harness.Client(t, "http1")
	text(t, c, s.URL+"/deaf")
	s.Signal(syscall.SIGTERM)
	s.Wait(time.Minute)
	if !strings.Contains(s.Log(), "Thread 0x") && !strings.Contains(s.Log(), "Current thread") {
		t.Error("it was killed without a word about where it was")
	}
}

func TestAHostThatIsKilledLeavesNobodyBehind(t *testing.T) {
	s := faulty(t, "", "family", "good", "noisy")
	c := harness.Client(t, "http1")
	var worker, group, session int
	if _, err := fmt.Sscan(text(t, c, s.URL+"/family"), &worker, &group, &session); err != nil {
		t.Fatal(err)
	}
	var others [2]int
	for i, name := range []string{"good", "noisy"} {
		if _, err := fmt.Sscan(text(t, c, s.URL+"/"+name), &others[i]); err != nil {
			t.Fatal(err)
		}
	}
	s.Signal(syscall.SIGKILL)
	for name, pid := range map[string]int{"worker": worker, "child in its group": group, "child in a session of its own": session, "second worker": others[0], "third worker": others[1]} {
		soon(t, name+" is gone", func() bool { return dead(pid) })
	}
}
