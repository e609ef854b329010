package guado

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// road is the mounts of one host, and counts who is on it: what a configuration has
// left behind is freed when the last request that came by it is answered.
type road struct {
	host    *host
	mounts  exchange.Handler
	under   atomic.Int64
	retired atomic.Bool
	once    sync.Once
	empty   chan struct{} // closed when it is retired and nobody is on it
	err     error         // of what was freed; written before empty is closed
}

func newRoad(h *host, mounts exchange.Handler) *road {
	return &road{host: h, mounts: mounts, empty: make(chan struct{})}
}

// Serve answers x with the mounts: with those of the host that is current now, when it
// has been retired since somebody chose it. It counts first and looks then, and retire
// does both the other way round, so that none of them misses the other.
func (r *road) Serve(x *exchange.Exchange) {
	r.under.Add(1)
	if r.retired.Load() {
		r.leave()
		r.host.now().road.Serve(x)
		return
	}
	defer r.leave()
	r.mounts.Serve(x)
}

func (r *road) leave() {
	if r.under.Add(-1) == 0 && r.retired.Load() {
		r.free()
	}
}

// retire ends it, once its host is no longer current.
func (r *road) retire() {
	r.retired.Store(true)
	if r.under.Load() == 0 {
		r.free()
	}
}

// free closes folders and idle upstream connections.
func (r *road) free() {
	r.once.Do(func() {
		r.err = closeAll(r.host.closers)
		close(r.empty)
	})
}

// close frees it whoever is on it.
func (r *road) close() error {
	r.free()
	return r.err
}

func closeAll(list []io.Closer) error {
	var err error
	for _, c := range list {
		err = errors.Join(err, c.Close())
	}
	return err
}
