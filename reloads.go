package guado

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/observe"
)

// ReloadStatus tells of the times that the configuration was read again.
type ReloadStatus struct {
	Applied uint64    `json:"applied"`
	Failed  uint64    `json:"failed"`
	Last    time.Time `json:"last,omitzero"`
	Error   string    `json:"error,omitempty"` // of the last one
	// Pending are keys whose new value needs a restart of the server.
	Pending []string `json:"needs_restart,omitempty"`
}

// reloads lets one reload run at a time, and none once the server stops.
type reloads struct {
	turn    chan struct{}   // who has put something in may reload; a stop never takes it out
	stopped context.Context //nolint:containedctx // ends a reload under way
	stop    context.CancelFunc
	roads   []*road // retired and perhaps not yet empty; for who has the turn

	mu   sync.Mutex // guards last
	last ReloadStatus
}

func newReloads() *reloads {
	r := &reloads{turn: make(chan struct{}, 1)}
	r.stopped, r.stop = context.WithCancel(context.Background())
	return r
}

// begin waits for the turn. The context that it gives also ends when the server stops.
func (r *reloads) begin(ctx context.Context) (context.Context, func(), error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-r.stopped.Done():
		return nil, nil, errStopping
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(r.stopped, func() { cancel(errStopping) })
	return ctx, func() {
		release()
		cancel(nil)
		<-r.turn
	}, nil
}

// close ends a reload under way, waits for its end, and lets none begin.
func (r *reloads) close() {
	r.stop()
	r.turn <- struct{}{}
}

// left notes a road that was retired and forgets those that are empty.
func (r *reloads) left(last *road) {
	r.roads = slices.DeleteFunc(append(r.roads, last), func(o *road) bool {
		select {
		case <-o.empty:
			return true
		default:
			return false
		}
	})
}

// closeRoads frees what requests were on until the end.
func (r *reloads) closeRoads() error {
	var err error
	for _, o := range r.roads {
		err = errors.Join(err, o.close())
	}
	return err
}

// note keeps what became of a reload.
func (r *reloads) note(answer *Reload, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last.Last, r.last.Error = time.Now(), ""
	if err != nil {
		r.last.Failed++
		r.last.Error = err.Error()
		return
	}
	r.last.Applied++
	r.last.Pending = nil
	for _, c := range answer.Changes {
		if c.Class == config.Restart {
			r.last.Pending = append(r.last.Pending, c.Key)
		}
	}
}

func (r *reloads) status() ReloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.last
	st.Pending = slices.Clone(st.Pending)
	return st
}

// reloadFigures are those of the metrics; nil where nothing can be read again.
func (h *host) reloadFigures() *observe.Reload {
	if h.server.Load == nil {
		return nil
	}
	st := h.reloads.status()
	at := st.Last
	if at.IsZero() {
		at = h.started
	}
	return &observe.Reload{At: at, OK: st.Error == "", Applied: st.Applied, Failed: st.Failed}
}
