package edge

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// failures tells the operator why the host could not serve requests: a full disk, an
// upstream that is down, a full queue. The client has the code only, and the access log
// may be off. A flood has one reason, so each code is told once in a while, with how
// many there were beside it.
type failures struct {
	log *slog.Logger

	mu    sync.Mutex // guards codes
	codes map[string]*failure
}

type failure struct {
	next   time.Time // before which nothing is said
	said   int       // records until then
	others int       // since it was said
}

const failureEvery = 10 * time.Second

// failureEach is how many records a code has in that time. Each request that was lost
// with a worker is another one, whose client may ask.
func failureEach(code string) int {
	if code == "worker_died" {
		return 20
	}
	return 1
}

// toldElsewhere are codes whose reason is logged by who knows it, with the request's
// id, or that an operator has asked for.
var toldElsewhere = []string{
	"application_error", "application_protocol", "answer_unsendable", "internal_error", "app_unavailable",
	"stopping", "maintenance", "paused",
}

// tell looks at an exchange that has ended.
func (f *failures) tell(x *exchange.Exchange, at time.Time) {
	p := x.Problem
	// 501 and 505 are the client's doing, as 4xx are.
	if p == nil || p.Status < 500 || p.Status == 501 || p.Status == 505 || slices.Contains(toldElsewhere, p.Code) {
		return
	}
	f.mu.Lock()
	one := f.codes[p.Code]
	if one == nil {
		one = &failure{}
		f.codes[p.Code] = one // the codes are those of docs/errors.md
	}
	if !at.Before(one.next) {
		one.next, one.said = at.Add(failureEvery), 0
	}
	if one.said >= failureEach(p.Code) {
		one.others++
		f.mu.Unlock()
		return
	}
	others := one.others
	one.said, one.others = one.said+1, 0
	f.mu.Unlock()
	level := slog.LevelError
	if p.Status == 503 {
		level = slog.LevelWarn
	}
	attrs := []any{"code", p.Code, "status", p.Status, "request_id", x.ID, "app", x.App}
	if p.Err != nil {
		attrs = append(attrs, "error", p.Err.Error())
	}
	if others > 0 {
		attrs = append(attrs, "others_before", others)
	}
	f.log.Log(context.Background(), level, "a request could not be served", attrs...)
}
