package guado

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Run serves until ctx ends, then drains: no new connections, requests under way and
// work behind answers have the configuration's graceful timeout, workers run their shutdown. It returns
// nil after a drain, [ErrNeverReady] when the only application could not boot, else what
// stopped it.
func (s *Server) Run(ctx context.Context) error {
	if err := errors.Join(s.problems...); err != nil {
		return err
	}
	if !s.resolved {
		if err := s.config.Resolve(s.Environ); err != nil {
			return err
		}
		s.resolved = true
	}
	h, err := newHost(ctx, s)
	if err != nil {
		return err
	}
	h.connect()
	defer h.manager.Close()
	ctx, end := context.WithCancel(ctx)
	defer end()
	h.end = func(cut bool) {
		end()
		if cut {
			s.Cut()
		}
	}
	s.mu.Lock()
	s.host = h
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.host = nil
		s.mu.Unlock()
	}()
	return h.serve(ctx, s)
}

// serve starts what newHost has made, waits for a reason to stop, and stops.
func (h *host) serve(ctx context.Context, s *Server) error {
	var waiting context.Context
	waiting, h.unhold = context.WithCancel(context.Background())
	h.restorePages()
	h.restoreStores()
	h.restoreGlobal()
	h.leaveStores()
	if err := h.beginKept(); err != nil {
		return errors.Join(err, h.stop(s.cut))
	}
	h.forgetStores()
	if err := h.waitForStep(); err != nil {
		return errors.Join(err, h.stop(s.cut))
	}
	if err := errors.Join(h.listenMetrics(), h.openPrograms(), h.openAdmin()); err != nil {
		return errors.Join(err, h.stop(s.cut))
	}
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed <- h.edge.Serve()
	}()
	h.programs.Start()
	for _, g := range h.groups {
		h.startGroup(waiting, g)
	}
	booted := make(chan error, 1)
	starting, quit := context.WithCancel(context.Background())
	defer quit()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.awaitBoot(starting, booted, s)
	}()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("a listener failed: %w", err)
	case err = <-booted:
	}
	h.state.Store(Stopping)
	h.manager.Stopping()
	quit()
	<-done
	if n := h.edge.UnderWay(); n > 0 {
		h.log.Info("stopping once the requests under way are answered", "requests", n, "at_most", h.config.Server.GracefulTimeout.String())
	} else if errors.Is(err, ErrNeverReady) {
		h.log.Info("stopping: the only application cannot be started")
	} else {
		h.log.Info("stopping")
	}
	stopErr := h.stop(s.cut)
	<-ended
	return errors.Join(err, stopErr)
}

// awaitBoot calls Ready once every group's first boot has ended. A failure stops the
// server when it is that of the only application; under `guado dev` the browser shows it
// and the next change of a file may heal it.
func (h *host) awaitBoot(starting context.Context, booted chan<- error, s *Server) {
	quit := starting.Done()
	var held []*group
	for _, g := range h.groups {
		select {
		case <-quit:
			return
		case <-h.bootPatience(g):
			held = append(held, g)
		case err := <-g.workers.FirstBoot():
			if err != nil && len(h.apps) == 1 && !h.config.Dev && !h.executes(g.config) {
				booted <- fmt.Errorf("%w: %w", ErrNeverReady, err)
				return
			}
		}
	}
	if err := h.finishStep(starting, held); err != nil {
		booted <- err
		return
	}
	h = h.now()
	h.state.CompareAndSwap(Starting, Serving)
	if s.Ready != nil {
		s.Ready(h.status())
	}
	h.awaitHeld(quit, held)
	h.manager.Ready()
}

// stop ends everything in order. When cut ends, what is still waited for is cut.
func (h *host) stop(cut context.Context) error {
	h.watching.health.Drain() // at once: a reload that is taken back may take its time
	h.reloads.close()
	h = h.now() // there is no other after it
	h.beUnready(cut)
	graceful, cancel := context.WithTimeout(cut, h.config.Server.GracefulTimeout.Std())
	defer cancel()
	// Before all else, so that nobody waits for what a pause holds.
	h.gate.Stop()
	h.endEvents(graceful)
	h.detachPages(graceful)
	h.endSockets()
	// 1. No new connections; idle ones close; requests under way finish, and so does
	// what the applications do behind their answers.
	if h.edge.Drain(graceful) != nil {
		// Connections that are slow to close are no loss.
		if n := h.edge.UnderWay(); n > 0 {
			h.log.Warn("requests are cut", "requests", n, "because", whyCut(cut))
		}
	}
	for _, g := range h.groups {
		if g.pool.Idle(graceful) != nil {
			h.log.Warn("work behind requests is cut", "group", g.config.Name, "because", whyCut(cut))
		}
	}
	if h.websockets.Wait(graceful) != nil {
		h.log.Debug("WebSockets are cut before their clients have closed", "because", whyCut(cut))
	}
	// 2. What is still there is told to stop; its answers are cut.
	for _, g := range h.groups {
		g.pool.Stop()
	}
	soon, cancelSoon := context.WithTimeout(cut, cutGrace)
	if h.edge.Drain(soon) != nil {
		h.log.Debug("connections are closed with requests under way")
	}
	cancelSoon()
	err := h.edge.Close()
	h.websockets.Close()
	h.wsx.Wait()
	// 3. Workers: lifespan shutdown, atexit, then signals. Then the programs that they
	// may need until then.
	h.unhold()
	h.held.Wait()
	h.drainWorkers(cut)
	h.executors.Wait()
	h.calls.Wait()
	h.programs.Stop(cut)
	err = errors.Join(err, h.closePrograms())
	// 4. Folders, idle upstream connections, the thread that started processes.
	err = errors.Join(err, h.road.close(), h.reloads.closeRoads())
	h.spawner.Close()
	err = errors.Join(err, h.saveGlobal(), h.closeReplay(), h.saveStoresAndPages(), h.kept.close(), h.closeIdentity())
	// 5. What all of that could be watched by.
	return errors.Join(err, h.unwatch(cut), h.closeAdmin())
}

// whyCut says who has lost patience.
func whyCut(cut context.Context) string {
	if cut.Err() != nil {
		return "told to stop at once"
	}
	return "graceful_timeout is over"
}

// cutGrace is how long answers that say "stopping" have to reach their clients.
const cutGrace = time.Second
