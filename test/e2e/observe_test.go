package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/guado-server/guado/test/harness"
)

// observed is a server with both kinds of applications and a listener of metrics.
type observed struct {
	*harness.Server
	t       *testing.T
	folder  string // of the sockets
	metrics *http.Client
}

func observe(t *testing.T, transport, more string, env ...string) *observed {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "m.sock")
	app := func(name, kind string) string {
		return fmt.Sprintf("[[app]]\nname = %q\nkind = %q\ntarget = \"observed:%s\"\ndir = %q\npython = %q\nping_timeout = \"1500ms\"\n[[mount]]\npath = \"/%s\"\napp = %q\n",
			name, kind, kind, harness.Apps(), harness.Python(t, "newest"), name, name)
	}
	listen := "127.0.0.1:0"
	booting := strings.HasPrefix(strings.Join(env, " "), "OBSERVED_GATE=")
	if booting { // it says where it listens only once it is ready
		listen = "unix:" + filepath.Join(filepath.Dir(socket), "s.sock")
	}
	config := fmt.Sprintf("[server]\nlisten = [%q]\n", listen) + app("shop", "wsgi") + app("api", "asgi") +
		fmt.Sprintf("[metrics]\nlisten = \"unix:%s\"\n", socket) + more
	o := &observed{t: t, folder: filepath.Dir(socket), Server: harness.Start(t, harness.Options{Config: config, Transport: transport, Env: env, NoWait: booting})}
	o.metrics = over(t, socket)
	o.WaitLog("metrics", time.Minute)
	return o
}

// over is a client of a Unix socket.
func over(t *testing.T, socket string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func fetch(t *testing.T, c *http.Client, url string, fields ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// scrape gives the metrics as Prometheus reads them.
func (o *observed) scrape() map[string]*dto.MetricFamily {
	o.t.Helper()
	status, text := fetch(o.t, o.metrics, "http://localhost/metrics")
	if status != 200 {
		o.t.Fatalf("%d %s", status, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		o.t.Fatalf("%v in\n%s", err, text)
	}
	return families
}

// value gives a sample; a histogram's is its count. Labels are name, value, …
func (o *observed) value(name string, labels ...string) (value, sum float64) {
	o.t.Helper()
	for _, m := range o.scrape()[name].GetMetric() {
		matches := 0
		for _, l := range m.GetLabel() {
			for i := 0; i < len(labels); i += 2 {
				if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
					matches++
				}
			}
		}
		if matches*2 == len(labels) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetSampleSum()
		}
	}
	return 0, 0
}

// eventually waits for a condition of which no event tells: figures come with heartbeats.
func (o *observed) eventually(what string, ok func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, text := fetch(o.t, o.metrics, "http://localhost/metrics")
			o.t.Fatalf("after a minute still not: %s\n%s", what, text)
		}
	}
}

func TestMetricsTellOfAppsQueuesAndWorkers(t *testing.T) {
	for _, transport := range harness.Transports() {
		t.Run(transport, func(t *testing.T) {
			o := observe(t, transport, "")
			c := harness.Client(t, "http1")
			for range 5 {
				fetch(t, c, o.URL+"/shop?s=0.01")
				fetch(t, c, o.URL+"/api")
			}
			fetch(t, c, o.URL+"/nowhere/at/all")
			for _, app := range []string{"shop", "api"} {
				o.eventually(app+" has answered five times", func() bool {
					n, _ := o.value("guado_http_requests_total", "app", app, "code_class", "2xx")
					return n == 5
				})
				took, tookSum := o.value("guado_http_request_duration_seconds", "app", app)
				worked, workedSum := o.value("guado_app_duration_seconds", "app", app)
				waited, _ := o.value("guado_queue_wait_seconds", "app", app)
				if took != 5 || worked != 5 || waited != 5 || workedSum <= 0 || workedSum > tookSum {
					t.Errorf("%s: %v exchanges took %v s, %v worked %v s, %v waited", app, took, tookSum, worked, workedSum, waited)
				}
				if out, _ := o.value("guado_http_response_bytes_total", "app", app); out != 5*55 {
					t.Errorf("%s: %v bytes", app, out)
				}
				if n, _ := o.value("guado_http_requests_in_flight", "app", app); n != 0 {
					t.Errorf("%s: %v under way", app, n)
				}
			}
			if _, worked := o.value("guado_app_duration_seconds", "app", "shop"); worked < 0.05 {
				t.Errorf("five answers of 10 ms took the application %v s", worked)
			}
			if n, _ := o.value("guado_http_requests_total", "app", "_other", "code_class", "4xx"); n != 1 {
				t.Errorf("%v exchanges found no mount", n)
			}
			if n, _ := o.value("guado_build_info"); n != 1 {
				t.Error("no guado_build_info")
			}
			o.eventually("the worker tells of the GIL", func() bool {
				n, _ := o.value("guado_worker_gil_waits_total", "group", "shop")
				return n == 5
			})
			if n, _ := o.value("guado_worker_resident_bytes", "group", "shop"); n < 1<<20 {
				t.Errorf("a worker of %v bytes", n)
			}
		})
	}
}

func TestABlockedLoopAndAHeldGILShowAtTheirWorker(t *testing.T) {
	o := observe(t, "", "")
	c := harness.Client(t, "http1")
	o.eventually("the loop comes", func() bool {
		lag, _ := o.value("guado_worker_loop_lag_seconds", "group", "api")
		return lag > 0 && lag < 60
	})
	gil, _ := o.value("guado_worker_gil_wait_seconds_total", "group", "shop")
	var wg sync.WaitGroup
	wg.Go(func() { fetch(t, c, o.URL+"/api?s=2") })
	for range 4 { // each computes, and waits for the others
		wg.Go(func() { fetch(t, c, o.URL+"/shop?s=0.3") })
	}
	o.eventually("the loop is a second late", func() bool {
		lag, _ := o.value("guado_worker_loop_lag_seconds", "group", "api")
		return lag >= 1
	})
	wg.Wait()
	o.eventually("the loop comes again", func() bool {
		lag, _ := o.value("guado_worker_loop_lag_seconds", "group", "api")
		return lag > 0 && lag < 1
	})
	o.eventually("threads have waited for the GIL", func() bool {
		now, _ := o.value("guado_worker_gil_wait_seconds_total", "group", "shop")
		return now > gil
	})
}

func TestAHostIsReadyOnceItsWorkersAre(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	o := observe(t, "", "[health]\nlive = \"/livez\"\nready = \"/up\"\n", "OBSERVED_GATE="+gate)
	o.URL = "http://localhost"
	c := over(t, filepath.Join(o.folder, "s.sock"))
	for url, want := range map[string]int{"/livez": 200, "/readyz": 503} {
		if status, text := fetch(t, o.metrics, "http://localhost"+url); status != want || want == 503 && !strings.Contains(text, "group shop") {
			t.Errorf("%s: %d %q, want %d", url, status, text, want)
		}
	}
	if status, text := fetch(t, c, o.URL+"/up"); status != 503 || strings.Contains(text, "shop") {
		t.Errorf("a stranger hears %d %q", status, text)
	}
	if status, _ := fetch(t, c, o.URL+"/livez"); status != 200 {
		t.Errorf("live: %d", status)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.eventually("the host is ready", func() bool {
		status, _ := fetch(t, c, o.URL+"/up")
		return status == 200
	})
	if n, _ := o.value("guado_ready"); n != 1 {
		t.Error("guado_ready is not 1")
	}
	if _, ok := o.scrape()["guado_http_requests_total"]; !ok {
		t.Fatal("nothing is counted")
	}
	if n, _ := o.value("guado_http_requests_total", "app", "_other", "code_class", "2xx"); n != 0 {
		t.Errorf("%v probes were counted", n)
	}
}

func TestAStoppingHostIsNotReadyBeforeItsListenersClose(t *testing.T) {
	o := observe(t, "", "[health]\nready = \"/readyz\"\ndrain_delay = \"5m\"\n")
	c := harness.Client(t, "http1")
	o.eventually("the host is ready", func() bool {
		status, _ := fetch(t, c, o.URL+"/readyz")
		return status == 200
	})
	o.Signal(syscall.SIGTERM)
	o.eventually("it is not ready any more", func() bool {
		status, _ := fetch(t, c, o.URL+"/readyz")
		return status == 503
	})
	for range 10 { // on new connections, as before
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		if status, _ := fetch(t, fresh, o.URL+"/shop"); status != 200 {
			t.Errorf("%d during the drain delay", status)
		}
	}
	o.Signal(syscall.SIGINT) // a second signal cuts the delay short
	if code := o.Wait(time.Minute); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTheAccessLogNamesWorkerAppAndTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	o := observe(t, "", "", "GUADO__SERVER__ACCESS_LOG="+path, "GUADO__SERVER__ACCESS_LOG_FORMAT=extended")
	fetch(t, harness.Client(t, "http1"), o.URL+"/shop?s=0.05")
	o.Signal(syscall.SIGTERM)
	o.Wait(time.Minute)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`"GET /shop\?s=0\.05 HTTP/1\.1" 200 55 .* id=\w{16} app=shop worker=p01 time=\d+\.\d{6} queue=\d+\.\d{6} work=(\d+\.\d{6})\n$`)
	m := line.FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s", text)
	}
	var worked float64
	if _, err := fmt.Sscan(string(m[1]), &worked); err != nil || worked < 0.05 {
		t.Errorf("%v s of work in %s", worked, text)
	}
}

// spans is a collector.
type spans struct {
	*httptest.Server
	mu  sync.Mutex // guards all
	all []*tracepb.Span
}

func newSpans(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var message collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &message)
		}
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, resource := range message.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				s.all = append(s.all, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *spans) of(trace string) map[string]*tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]*tracepb.Span{}
	for _, span := range s.all {
		if hex.EncodeToString(span.GetTraceId()) == trace {
			name, _, _ := strings.Cut(span.GetName(), " ")
			found[name] = span
		}
	}
	return found
}

func TestATraceGoesFromTheEdgeToTheApplication(t *testing.T) {
	to := newSpans(t)
	for _, transport := range harness.Transports() {
		o := observe(t, transport, fmt.Sprintf("[trace]\nendpoint = %q\n", to.URL))
		c := harness.Client(t, "http1")
		told := map[string]string{}
		for _, app := range []string{"shop", "api"} {
			_, told[app] = fetch(t, c, o.URL+"/"+app+"?s=0.05", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		}
		if rss := hostMemory(t, o.PID); rss > 40<<20 {
			t.Errorf("a host with metrics and traces takes %d KiB", rss>>10)
		}
		o.Signal(syscall.SIGTERM) // a stop sends what waits
		o.Wait(time.Minute)
		for app, parent := range told {
			part := strings.Split(parent, "-")
			if len(part) != 4 || part[1] == "0af7651916cd43dd8448eb211c80319c" {
				t.Fatalf("%s: the application was told %q", app, parent)
			}
			found := to.of(part[1])
			host, worker := found["GET"], found["worker"]
			if host == nil || worker == nil {
				t.Fatalf("%s: spans %v", app, found)
			}
			if hex.EncodeToString(worker.GetSpanId()) != part[2] || hex.EncodeToString(worker.GetParentSpanId()) != hex.EncodeToString(host.GetSpanId()) ||
				len(host.GetParentSpanId()) != 0 {
				t.Errorf("%s: host %x, worker %x below %x, the application below %s", app, host.GetSpanId(), worker.GetSpanId(), worker.GetParentSpanId(), part[2])
			}
			if worker.GetStartTimeUnixNano() < host.GetStartTimeUnixNano() || worker.GetEndTimeUnixNano() > host.GetEndTimeUnixNano() {
				t.Errorf("%s: the worker's span is not inside the host's", app)
			}
			if took := time.Duration(worker.GetEndTimeUnixNano() - worker.GetStartTimeUnixNano()); took < 50*time.Millisecond {
				t.Errorf("%s: the application took 50 ms and its span %v", app, took)
			}
		}
	}
}

// hostMemory is what the host holds, the files of its program aside.
func hostMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	var kib int
	if m == nil {
		t.Fatal("no VmRSS")
	}
	if _, err := fmt.Sscan(string(m[1]), &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
