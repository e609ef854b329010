package edge

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/test/harness"
)

func TestTheAccessLogHasALineForEachRequest(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		for _, format := range []LogFormat{LogCombined, LogExtended, LogJSON} {
			lines := &harness.Log{}
			r := serve(t, m, func(x *exchange.Exchange) {
				x.App, x.Worker, x.Waited, x.Worked = "the shop", "p01", 2*time.Millisecond, 1500*time.Microsecond
				text(x, 201, "made")
			}, func(o *Options) { o.AccessLog = &AccessLog{Writer: lines, Format: format} })
			r.get("/a?b=c", "Referer: http://ref.test/", `User-Agent: te"st\x`, "Cookie: secret", "Authorization: secret")
			r.get("/..%2f", "User-Agent: refused")
			if err := r.Close(); err != nil { // writes what is left
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSpace(lines.String()), "\n")
			if len(got) != 2 || strings.Contains(lines.String(), "secret") {
				t.Fatalf("log:\n%s", lines)
			}
			if format != LogJSON {
				want := `^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?b=c ` + regexp.QuoteMeta(m.proto) +
					`" 201 4 "http://ref\.test/" "te\\x22st\\x5cx"`
				if format == LogExtended {
					want += ` id=[0-9a-z]{16} app=the\\x20shop worker=p01 time=\d+\.\d{6} queue=0\.002000 work=0\.001500`
					if other := regexp.MustCompile(` id=[0-9a-z]{16} app=- worker=- time=\d+\.\d{6} queue=0\.000000 work=0\.000000$`); !other.MatchString(got[1]) {
						t.Errorf("line %s", got[1])
					}
				}
				want += "$"
				if !regexp.MustCompile(want).MatchString(got[0]) {
					t.Errorf("line %s\nwant %s", got[0], want)
				}
				continue
			}
			var first, second map[string]any
			if err := errors.Join(json.Unmarshal([]byte(got[0]), &first), json.Unmarshal([]byte(got[1]), &second)); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]any{
				"status": 201.0, "method": "GET", "target": "/a?b=c", "app": "the shop", "worker": "p01", "waited_ms": 2.0, "worked_ms": 1.5, "bytes_out": 4.0,
				"client": "127.0.0.1", "protocol": m.proto, "user_agent": `te"st\x`, "bytes_in": 0.0,
			} {
				if first[name] != want {
					t.Errorf("%s is %v, want %v", name, first[name], want)
				}
			}
			if second["status"] != 400.0 || second["problem"] != "bad_path" || len(second["request_id"].(string)) != 16 || len(first["trace_id"].(string)) != 32 {
				t.Errorf("lines\n%s\n%s", got[0], got[1])
			}
		}
	})
}

func TestTheAccessLogIsWrittenWithinASecondAndReopened(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) { o.AccessLog = &AccessLog{Path: path} })
	has := func(file, what string) func() bool {
		return func() bool {
			b, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(b), what)
		}
	}
	r.get("/first")
	eventually(t, "the line is in the file", has(path, "/first"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	r.get("/between")
	eventually(t, "the renamed file is still written to", has(path+".1", "/between"))
	if err := r.ReopenLog(); err != nil {
		t.Fatal(err)
	}
	r.get("/second")
	eventually(t, "the new file is written to", has(path, "/second"))
	if has(path+".1", "/second")() {
		t.Error("the old file was written to after reopening")
	}
}

// stuckWriter is a disk that stands still.
type stuckWriter struct{ release chan struct{} }

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w.release
	return len(p), nil
}

func TestADiskThatStandsStillDropsLinesAndNotRequests(t *testing.T) {
	logs := &harness.Log{}
	w := stuckWriter{make(chan struct{})}
	a, err := newAccessLog(&AccessLog{Writer: w}, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	x := exchange.New()
	x.Method, x.Target = "GET", []byte("/"+strings.Repeat("x", 8000))
	for range 3 * logHoldBytes / 8000 { // does not block
		a.write(x, lane.Outcome{Status: 200})
	}
	close(w.release)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), "lines were dropped") {
		t.Errorf("log: %s", logs)
	}
}

func TestJSONLinesAreJSONWhateverTheClientSends(t *testing.T) {
	x := exchange.New()
	for _, target := range []string{"/\"\\\x01\x7f", "/\xff\xc3\x28", "/ä€𝄞", ""} {
		x.Method, x.Target = "GET", []byte(target)
		line := appendJSON(&lastLine{}, nil, x, exchange.Outcome{At: time.Now()})
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Errorf("%q: %s: %v", target, line, err)
		}
	}
}

func TestTimesOfLinesAreTheirOwn(t *testing.T) {
	x, s := exchange.New(), &lastLine{}
	at := time.Date(2026, 3, 1, 23, 59, 59, 999_999_000, time.UTC)
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{0, "01/Mar/2026:23:59:59 +0000"}, {time.Microsecond, "02/Mar/2026:00:00:00 +0000"}, {0, "01/Mar/2026:23:59:59 +0000"}} {
		x.Received = at.Add(c.after)
		if line := string(appendCombined(s, nil, x, exchange.Outcome{At: x.Received})); !strings.Contains(line, "["+c.want+"]") {
			t.Errorf("%s, want %s", line, c.want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0.000000", time.Microsecond: "0.000001", 1234567 * time.Microsecond: "1.234567", time.Hour: "3600.000000", -time.Second: "0.000000",
	} {
		if got := string(appendSeconds(nil, "", d)); got != want {
			t.Errorf("%v is %s", d, got)
		}
	}
}

func BenchmarkAccessLogLine(b *testing.B) {
	x, fields := browserRequest()
	x.Method, x.Version, x.Target, x.Fields = "GET", exchange.HTTP11, []byte("/catalogue/items?page=2"), fields
	x.Client, x.ID, x.Received = netip.MustParseAddrPort("192.0.2.1:4711"), "0123456789abcdef", time.Now()
	for name, format := range map[string]func(*lastLine, []byte, *exchange.Exchange, exchange.Outcome) []byte{
		"combined": appendCombined, "extended": appendExtended, "json": appendJSON,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf, s := make([]byte, 0, 4096), &lastLine{}
			for b.Loop() {
				buf = format(s, buf[:0], x, exchange.Outcome{Status: 200, BytesOut: 1234, At: x.Received})
			}
		})
	}
}
