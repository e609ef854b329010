package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// TestSoakMemoryDoesNotGrowWithRequests prints the slope of memory over ten samples
// of about a million requests each, a minute at most; make soak runs it.
func TestSoakMemoryDoesNotGrowWithRequests(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		t.Fatal("wrk is not installed: tools/setup.sh bench installs it")
	}
	binary := filepath.Join(t.TempDir(), "soakhost")
	if out, err := exec.Command("go", "build", "-o", binary, "./soakhost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, transport := range harness.Transports() {
		for _, kind := range []string{"wsgi", "asgi"} {
			t.Run(transport+"/"+kind, func(t *testing.T) { soak(t, binary, wrk, transport, kind) })
		}
	}
}

func soak(t *testing.T, binary, wrk, transport, kind string) {
	t.Helper()
	config := fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\ntransport = %q\n[[app]]\nname = \"soak\"\nkind = %q\ntarget = \"soak:%s\"\ndir = %q\npython = %q\n",
		transport, kind, kind, harness.Apps(), harness.Python(t, "newest"))
	s := harness.Start(t, harness.Options{Config: config, Binary: binary})
	c := harness.Client(t, "http1")
	worker := s.Workers()
	if len(worker) != 1 {
		t.Fatalf("workers %v", worker)
	}
	samples := 10
	if n, err := strconv.Atoi(os.Getenv("GUADO_SOAK")); err == nil && n > 1 {
		samples = n
	}
	var xs, ys []float64
	total := 0
	for sample := -1; sample < samples; sample++ { // the first one warms up
		done := load(t, wrk, s.URL, 1_000_000)
		text(t, c, s.URL+"/trim")
		before := strings.Count(s.Log(), "collected")
		s.Signal(syscall.SIGUSR1)
		for strings.Count(s.Log(), "collected") == before {
			s.WaitLog("collected", time.Minute)
		}
		memory := rssAnon(t, s.PID) + rssAnon(t, worker[0]) + ring(t, s.PID)
		t.Logf("sample %2d: %8d requests, host %6d KiB, worker %6d KiB, ring %5d KiB", sample+1, done,
			rssAnon(t, s.PID)>>10, rssAnon(t, worker[0])>>10, ring(t, s.PID)>>10)
		if sample >= 0 {
			total += done
			xs, ys = append(xs, float64(total)), append(ys, float64(memory))
		}
	}
	slope := leastSquares(xs, ys)
	t.Logf("%s %s: %.3f bytes per request over %d requests", transport, kind, slope, total)
	if slope > 1 {
		t.Errorf("memory grows by %.3f bytes per request", slope)
	}
}

var (
	requestsIn = regexp.MustCompile(`(\d+) requests in`)
	brokenIn   = regexp.MustCompile(`Socket errors: .*(connect|read|write) [1-9]`)
)

// longestSample bounds a sample on a machine that is slow or busy: its requests are counted.
const longestSample = time.Minute

// load sends at least count requests in runs of ten seconds, or as many as a minute takes.
func load(t *testing.T, wrk, url string, count int) int {
	t.Helper()
	done := 0
	for end := time.Now().Add(longestSample); done < count && time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := exec.CommandContext(ctx, wrk, "-t1", "-c64", "-d10s", url+"/").CombinedOutput()
		cancel()
		m := requestsIn.FindSubmatch(out)
		broken := brokenIn.Match(out) // a timeout is of a slow machine
		if err != nil || m == nil || broken || strings.Contains(string(out), "Non-2xx") {
			t.Fatalf("%v\n%s", err, out)
		}
		n, err := strconv.Atoi(string(m[1]))
		if err != nil || n == 0 {
			t.Fatalf("no requests: %s", out)
		}
		done += n
	}
	return done
}

// ring is the shared memory that the host has touched, in bytes.
func ring(t *testing.T, pid int) int {
	t.Helper()
	return statusBytes(t, pid, "RssShmem")
}

func leastSquares(xs, ys []float64) float64 {
	var mx, my, sxy, sxx float64
	for i := range xs {
		mx += xs[i] / float64(len(xs))
		my += ys[i] / float64(len(ys))
	}
	for i := range xs {
		sxy += (xs[i] - mx) * (ys[i] - my)
		sxx += (xs[i] - mx) * (xs[i] - mx)
	}
	return sxy / sxx
}
