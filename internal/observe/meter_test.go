package observe

import (
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/guado-server/guado/internal/exchange"
)

func ended(m *Meter, status int, took time.Duration, change func(*exchange.Exchange)) {
	x := exchange.New()
	x.Received = time.Unix(1000, 0)
	if change != nil {
		change(x)
	}
	m.Begin()
	m.End(x, exchange.Outcome{Status: status, BytesIn: 10, BytesOut: 20, At: x.Received.Add(took)})
}

func scraped(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			t.Errorf("no line %q; there are:", line)
			for have := range strings.Lines(text) {
				if strings.HasPrefix(have, name) {
					t.Log(strings.TrimSpace(have))
				}
			}
		}
	}
}

func TestExchangesAreCountedByAppAndClass(t *testing.T) {
	m := NewMetrics("1.2.3", func() State { return State{} })
	shop := m.Meter("shop")
	if m.Meter("shop") != shop {
		t.Error("a second meter for the same name")
	}
	var wg sync.WaitGroup
	for range 8 { // shards are summed up
		wg.Go(func() {
			for range 100 {
				ended(shop, 200, 3*time.Millisecond, func(x *exchange.Exchange) {
					x.Worker, x.Waited, x.Worked = "p01", 300*time.Millisecond, 2*time.Millisecond
				})
			}
		})
	}
	wg.Wait()
	ended(shop, 503, time.Second, nil) // refused: no worker had it
	ended(shop, 0, time.Second, nil)
	shop.Begin()
	wantLines(t, scraped(t, m),
		`guado_build_info{goversion="`+runtime.Version()+`",version="1.2.3"} 1`,
		`guado_http_requests_total{app="shop",code_class="2xx"} 800`,
		`guado_http_requests_total{app="shop",code_class="5xx"} 1`,
		`guado_http_requests_total{app="shop",code_class="none"} 1`,
		`guado_http_requests_in_flight{app="shop"} 1`,
		`guado_http_request_bytes_total{app="shop"} 8020`,
		`guado_http_response_bytes_total{app="shop"} 16040`,
		`guado_http_request_duration_seconds_bucket{app="shop",le="0.0025"} 0`,
		`guado_http_request_duration_seconds_bucket{app="shop",le="0.005"} 800`,
		`guado_http_request_duration_seconds_count{app="shop"} 802`,
		`guado_queue_wait_seconds_bucket{app="shop",le="0.25"} 0`,
		`guado_queue_wait_seconds_count{app="shop"} 800`,
		`guado_app_duration_seconds_bucket{app="shop",le="0.0025"} 800`,
	)
}

func TestAFolderHasNoQueueAndNoApplication(t *testing.T) {
	m := NewMetrics("1", func() State { return State{} })
	ended(m.Meter("files"), 200, time.Millisecond, nil)
	if text := scraped(t, m); strings.Contains(text, "guado_queue_wait_seconds") || strings.Contains(text, "guado_app_duration") {
		t.Error("a folder waits in a queue")
	}
}

func TestStoresAreToldOfWhereThereAreAny(t *testing.T) {
	st := State{}
	m := NewMetrics("1", func() State { return st })
	if text := scraped(t, m); strings.Contains(text, "guado_stores") || strings.Contains(text, "guado_global") {
		t.Error("a host without stores tells of them")
	}
	st.Stores = &Stores{Users: 2, Stores: 5, Commits: 7, Stale: 1, Late: 3, Moves: 4, Sharing: 8, Waiting: 6}
	st.Global = &Global{Leaves: 6, Ending: 1, Replicas: 2, Bytes: 300, Limit: 4000, Updates: 9, Expired: 8}
	wantLines(t, scraped(t, m),
		`guado_stores 5`, `guado_stores_users 2`, `guado_state_moves_total 4`, `guado_state_commits_total{result="applied"} 7`,
		`guado_state_commits_total{result="stale"} 1`, `guado_state_commits_total{result="late"} 3`,
		`guado_stores_sharing_pages 8`, `guado_stores_waiting_changes 6`,
		`guado_global_leaves{which="all"} 6`, `guado_global_leaves{which="ending"} 1`, `guado_global_replicas 2`,
		`guado_global_bytes 300`, `guado_global_limit_bytes 4000`, `guado_global_updates_total 9`, `guado_global_expired_total 8`,
	)
}

func TestTheStateOfTheHostIsReadAtEachScrape(t *testing.T) {
	workers := 1
	m := NewMetrics("1", func() State {
		g := Group{Name: "shop", Waiting: 3, States: map[string]int{"booting": workers, "ready": 0}, Events: map[string]uint64{"lost": 2}, Restarts: map[string]uint64{"died": 4}}
		for range workers {
			g.Workers = append(g.Workers, Worker{Slot: "p01", InFlight: 5, GILWaits: 7, GILWait: 0.5, LoopLag: 0.25, Loop: true})
		}
		workers = 0
		return State{Connections: 6, Accepted: 60, Ready: true, Groups: []Group{g},
			Programs:  []Program{{Name: "daemon", State: "running", Restarts: 1}},
			Executors: []Executor{{Name: "cpu", Waiting: 2, Ended: map[string]uint64{"lost": 1}}},
			Identity: &Identity{Guests: 3, LoggedIn: 2, Users: 1, Made: 9, Logins: 4, Logouts: 2,
				Ended: map[string]uint64{"idle": 5}, Refused: map[string]uint64{"forged": 7}},
			Reload: &Reload{At: time.Unix(1000, 0), OK: false, Applied: 2, Failed: 1}}
	})
	wantLines(t, scraped(t, m),
		`guado_connections 6`, `guado_connections_accepted_total 60`, `guado_ready 1`,
		`guado_queue_waiting{group="shop"} 3`, `guado_queue_events_total{event="lost",group="shop"} 2`,
		`guado_workers{group="shop",state="booting"} 1`, `guado_workers{group="shop",state="ready"} 0`,
		`guado_worker_restarts_total{group="shop",reason="died"} 4`,
		`guado_worker_requests_in_flight{group="shop",worker="p01"} 5`,
		`guado_worker_gil_wait_seconds_total{group="shop",worker="p01"} 0.5`,
		`guado_worker_loop_lag_seconds{group="shop",worker="p01"} 0.25`,
		`guado_programs{program="daemon",state="running"} 1`,
		`guado_executor_tasks_waiting{executor="cpu"} 2`, `guado_executor_tasks_total{executor="cpu",result="lost"} 1`,
		`guado_identity_connections{kind="guest"} 3`, `guado_identity_connections{kind="user"} 2`, `guado_identity_users 1`,
		`guado_identity_connections_made_total 9`, `guado_identity_connections_ended_total{reason="idle"} 5`,
		`guado_identity_logins_total{what="login"} 4`, `guado_identity_logins_total{what="logout"} 2`,
		`guado_identity_cookies_refused_total{reason="forged"} 7`,
		`guado_config_last_reload_success 0`, `guado_config_reloads_total{result="applied"} 2`,
	)
	if text := scraped(t, m); strings.Contains(text, "p01") {
		t.Error("a worker that is gone is still shown")
	}
}

func TestPrometheusGetsNativeHistogramsWhenItAsksForProtobuf(t *testing.T) {
	m := NewMetrics("1", func() State { return State{} })
	ended(m.Meter("shop"), 200, time.Second, nil)
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	decoder := expfmt.NewDecoder(w.Body, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); errors.Is(err, io.EOF) {
			t.Fatal("the histogram is not there")
		} else if err != nil {
			t.Fatal(err)
		}
		if family.GetName() != "guado_http_request_duration_seconds" {
			continue
		}
		h := family.GetMetric()[0].GetHistogram()
		if h.GetSchema() != schema || len(h.GetPositiveSpan()) == 0 || len(h.GetBucket()) != len(classic) {
			t.Errorf("%v", h)
		}
		return
	}
}

func BenchmarkMeter(b *testing.B) {
	m := newMeter("shop")
	b.RunParallel(func(pb *testing.PB) {
		x := exchange.New()
		x.Received, x.Worker, x.Worked = time.Now(), "p01", time.Millisecond
		o := exchange.Outcome{Status: 200, BytesOut: 14, At: x.Received.Add(time.Millisecond)}
		for pb.Next() {
			m.Begin()
			m.End(x, o)
		}
	})
}

// TestEachMetricIsInTheDocumentation: an operator looks there for what a name means.
func TestEachMetricIsInTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan *prometheus.Desc, 100)
	newMeters().Describe(all)
	(&stateCollector{}).Describe(all)
	close(all)
	for d := range all {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("%s is not in docs/observability.md", name)
		}
	}
}
