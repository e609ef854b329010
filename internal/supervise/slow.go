package supervise

import (
	"fmt"
	"time"

	"github.com/guado-server/guado/internal/link"
)

// stacksEvery is how often a slot prints its stacks for slow requests at most.
const stacksEvery = 10 * time.Second

// pythonEvery is the twin of BEAT_EVERY in python/guado/worker/interrupt.py.
const pythonEvery = time.Second

// watchSlow tells of slow requests, with the stacks of their worker.
func (g *Group) watchSlow() {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	printed := map[*slot]time.Time{}
	for {
		select {
		case <-g.ctx.Done():
			return
		case now := <-t.C:
			o := g.o()
			if o.SlowRequest <= 0 {
				continue
			}
			o.Crew.Slow(o.SlowRequest, func(l *link.Link, request, app string, took time.Duration) {
				s, p := g.behind(l)
				if p == nil {
					return
				}
				text := "slow request"
				fresh := now.Sub(printed[s]) > stacksEvery
				if fresh {
					printed[s] = now
					text += ": the stacks of its worker follow on standard error"
				}
				o.Log.Warn(text, "request_id", request, "app", app, "slot", s.name, "group", o.Name, "seconds", took.Seconds())
				if fresh {
					p.dump()
				}
			})
		}
	}
}

// behind finds the process at the other end of a link.
func (g *Group) behind(l *link.Link) (*slot, *process) {
	for _, s := range g.slots {
		s.mu.Lock()
		p := s.front.p
		for _, old := range s.old {
			if old.p.link == l {
				p = old.p
			}
		}
		s.mu.Unlock()
		if p != nil && p.link == l {
			return s, p
		}
	}
	return nil, nil
}

// hangs judges by the last heartbeat. One that is old tells nothing: the host itself
// may have stood still, and a worker without a pulse is found by that.
func (w *worker) hangs(now time.Time) error {
	o := w.slot.group.o()
	if o.HangTimeout <= 0 {
		return nil
	}
	beat := w.p.link.Stats()
	if now.Sub(beat.At) > 2*pingEvery {
		return nil
	}
	switch {
	case beat.Still > o.HangTimeout+pythonEvery:
		return fmt.Errorf("%w: no Python for %s (hang_timeout)", errHangs, beat.Still.Round(time.Second))
	case beat.LoopLag > o.HangTimeout:
		return fmt.Errorf("%w: the event loop is blocked for %s (hang_timeout)", errHangs, beat.LoopLag.Round(time.Second))
	}
	return nil
}
