package edge

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/test/harness"
)

func TestWhyTheHostCouldNotServeIsInTheLog(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		problems := map[string]*exchange.Problem{
			"/full":    {Status: 503, Code: "spool_full", Err: errors.New("no space left on device")},
			"/away":    {Status: 502, Code: "upstream_unreachable", Err: errors.New("connection refused")},
			"/missing": {Status: 404, Code: "not_found", Err: errors.New("no such file")},
			"/lost":    {Status: 502, Code: "worker_died", Err: errors.New("killed")},
			"/raised":  {Status: 500, Code: "application_error", Err: errors.New("told with its traceback")},
		}
		r := serve(t, m, func(x *exchange.Exchange) { x.Fail(problems[string(x.Path)]) })
		for range 5 {
			for path := range problems {
				r.get(path)
			}
		}
		eventually(t, "both reasons are logged", func() bool {
			log := r.logs.String()
			return strings.Contains(log, "no space left on device") && strings.Contains(log, "connection refused") && strings.Count(log, "killed") == 5
		})
		log := r.logs.String()
		if n := strings.Count(log, "could not be served"); n != 2+5 || strings.Contains(log, "no such file") || strings.Contains(log, "told with") {
			t.Errorf("%d records:\n%s", n, log)
		}
	})
}

func TestAFloodOfFailuresIsToldOnceInAWhileWithItsSize(t *testing.T) {
	var log harness.Log
	f := &failures{log: slog.New(slog.NewTextHandler(&log, nil)), codes: map[string]*failure{}}
	x := exchange.New()
	x.Problem = &exchange.Problem{Status: 503, Code: "queue_full"}
	begin := time.Now()
	for i := range 1000 {
		f.tell(x, begin.Add(time.Duration(i)*time.Millisecond))
	}
	f.tell(x, begin.Add(failureEvery))
	if text := log.String(); strings.Count(text, "queue_full") != 2 || !strings.Contains(text, "others_before=999") {
		t.Errorf("%s", text)
	}
}
