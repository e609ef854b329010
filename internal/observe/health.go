package observe

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// Health answers those who ask whether to restart the host (live) and whether to send
// it requests (ready). Live says only that the process runs: what is wrong behind it is
// not mended by killing it.
type Health struct {
	draining atomic.Bool
	missing  func() []string
}

// NewHealth makes health; missing names what is not ready, and is asked at each probe.
func NewHealth(missing func() []string) *Health { return &Health{missing: missing} }

// Drain makes the host not ready for good: it is about to stop.
func (h *Health) Drain() { h.draining.Store(true) }

// Missing tells what is not ready; nothing when all is.
func (h *Health) Missing() []string {
	if h.draining.Load() {
		return []string{"the host is stopping"}
	}
	return h.missing()
}

// Live answers 200.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, 200, "ok\n") })
}

// Ready answers 200, or 503 with what is missing.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if missing := h.Missing(); len(missing) > 0 {
			say(w, 503, strings.Join(missing, "\n")+"\n")
			return
		}
		say(w, 200, "ok\n")
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // who asked has left
}

// Paths are where the main listeners answer probes, in front of every mount; empty
// ones nowhere.
type Paths struct{ Live, Ready string }

// Guard puts the probes in front of next. Strangers can ask here: they hear no more than
// yes or no. Probes are not counted, for they would flatter every rate of errors.
func (h *Health) Guard(p Paths, next exchange.Handler) exchange.Handler {
	if p.Live == "" && p.Ready == "" {
		return next
	}
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		switch {
		case p.Live != "" && string(x.Path) == p.Live:
			probe(x, true)
		case p.Ready != "" && string(x.Path) == p.Ready:
			probe(x, len(h.Missing()) == 0)
		default:
			next.Serve(x)
		}
	})
}

// Probe is the App of an exchange that asked for health on a main listener.
const Probe = "_health"

func probe(x *exchange.Exchange, yes bool) {
	x.App = Probe
	head := exchange.Head{Status: 200, Length: 3, Fields: []exchange.Field{
		{Name: []byte("Content-Type"), Value: []byte("text/plain; charset=utf-8")},
		{Name: []byte("Cache-Control"), Value: []byte("no-store")},
	}}
	text := "ok\n"
	if !yes {
		head.Status, text = 503, "not ready\n"
		head.Length = int64(len(text))
	}
	err := x.Answer.Head(head)
	if err == nil {
		_, err = x.Answer.Write([]byte(text))
	}
	if err != nil {
		x.Answer.Abort(err)
	}
}
