package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/link"
)

// job is a replacement that waits for its turn: one worker of a group is replaced at a
// time, so that there is never more than one too many and none too few.
type job struct {
	slot *slot
	of   *worker // nil: whichever is there
	why  Reason
	done chan<- error // nil: nobody waits
}

// ErrNoSlot: the group has no such worker.
var ErrNoSlot = errors.New("there is no such worker")

func (g *Group) slot(name string) *slot {
	i := slices.IndexFunc(g.slots, func(s *slot) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return g.slots[i]
}

// Replace replaces all workers, the newest first, each by one that serves before the
// old one stops getting requests. It stops at the first that cannot boot: the old ones
// go on then, and its error says why.
func (g *Group) Replace(ctx context.Context, why Reason) error {
	for _, slot := range g.Newest() {
		if err := g.ReplaceSlot(ctx, slot, why); err != nil {
			return err
		}
	}
	return nil
}

// Newest names the slots in the order in which their workers are replaced: those that
// have served for the shortest time first, which lose least.
func (g *Group) Newest() []string {
	since := map[*slot]time.Time{}
	slots := slices.Clone(g.slots)
	for _, s := range slots {
		s.mu.Lock()
		since[s] = s.front.since
		s.mu.Unlock()
	}
	slices.SortStableFunc(slots, func(a, b *slot) int { return since[b].Compare(since[a]) })
	names := make([]string, len(slots))
	for i, s := range slots {
		names[i] = s.name
	}
	return names
}

// ReplaceSoon replaces all workers, without waiting for it.
func (g *Group) ReplaceSoon(why Reason) {
	for _, slot := range g.Newest() {
		g.enqueue(job{slot: g.slot(slot), why: why})
	}
}

// ReplaceSlotSoon replaces one worker, without waiting for it.
func (g *Group) ReplaceSlotSoon(slot string, why Reason) error {
	s := g.slot(slot)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoSlot, slot)
	}
	g.enqueue(job{slot: s, why: why})
	return nil
}

// RestartAll is [Group.Restart], and waits until all serve. Its error says why the first
// could not boot.
func (g *Group) RestartAll(ctx context.Context) error {
	all := make([]chan error, 0, len(g.slots))
	for _, s := range g.slots {
		done := make(chan error, 1)
		s.order(order{what: restart, why: ByOperator, done: done})
		all = append(all, done)
	}
	for _, done := range all {
		if err := g.await(ctx, done); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceSlot replaces one worker, and waits until its successor serves.
func (g *Group) ReplaceSlot(ctx context.Context, slot string, why Reason) error {
	s := g.slot(slot)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoSlot, slot)
	}
	done := make(chan error, 1)
	g.enqueue(job{slot: s, why: why, done: done})
	return g.await(ctx, done)
}

func (g *Group) await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return errClosing
	}
}

// Thaw starts the workers that are frozen anew, and names them: what kept them from
// booting may have been mended.
func (g *Group) Thaw(why Reason) []string {
	var names []string
	for _, s := range g.slots {
		if s.current() == Frozen {
			names = append(names, s.name)
			s.order(order{what: restart, why: why})
		}
	}
	return names
}

// Halt ends a worker in order; its slot stays empty until it is replaced or restarted.
func (g *Group) Halt(slot string) error {
	s := g.slot(slot)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoSlot, slot)
	}
	s.order(order{what: halt, why: ByOperator})
	return nil
}

// Kill ends a worker's process at once, with what it has under way; the next one starts as
// after any death.
func (g *Group) Kill(slot string) error {
	s := g.slot(slot)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoSlot, slot)
	}
	s.mu.Lock()
	p, state := s.front.p, s.front.state
	s.mu.Unlock()
	if p == nil || state == Stopped || state == BackingOff || state == Frozen {
		return fmt.Errorf("%s has no process: it is %s", slot, state)
	}
	p.kill(errKilled)
	return nil
}

// Recycle replaces the worker behind l. It gets no new requests from now on if another
// one serves; the only one serves until its successor is ready, because all would wait
// for that boot otherwise. It ends when the requests that it has are through, at the
// latest after DrainMax.
func (g *Group) Recycle(l *link.Link, why Reason) {
	for _, s := range g.slots {
		s.mu.Lock()
		w := s.front
		mine := w.p != nil && w.p.link == l && w.state == Serving
		s.mu.Unlock()
		if mine && g.replaceLater(s, w, why) && g.serves(s) {
			s.cordon(w, true)
		}
	}
}

// serves tells whether another slot than this one has a worker that gets new requests.
func (g *Group) serves(but *slot) bool {
	for _, s := range g.slots {
		if s == but {
			continue
		}
		s.mu.Lock()
		open := s.front.state == Serving && !s.front.cordoned
		s.mu.Unlock()
		if open {
			return true
		}
	}
	return false
}

// Cordon keeps new requests from a worker, or lets them come again.
func (g *Group) Cordon(slot string, on bool) error {
	s := g.slot(slot)
	if s == nil {
		return fmt.Errorf("%w: %s", ErrNoSlot, slot)
	}
	s.mu.Lock()
	w := s.front
	serves := w.state == Serving
	s.mu.Unlock()
	if !serves {
		return fmt.Errorf("%s does not serve: it is %s", slot, s.current())
	}
	s.cordon(w, on)
	return nil
}

func (s *slot) cordon(w *worker, on bool) {
	s.mu.Lock()
	changed := w.cordoned != on && w.state == Serving
	if changed {
		w.cordoned = on
	}
	s.mu.Unlock()
	crew := s.group.o().Crew
	switch {
	case !changed:
	case on:
		crew.Cordon(w.p.link)
	default:
		crew.Uncordon(w.p.link)
	}
}

// Stacks gives the stacks of all threads of a worker, as it prints them itself.
func (g *Group) Stacks(slot string) (string, error) {
	s := g.slot(slot)
	if s == nil {
		return "", fmt.Errorf("%w: %s", ErrNoSlot, slot)
	}
	s.mu.Lock()
	p := s.front.p
	s.mu.Unlock()
	if p == nil {
		return "", fmt.Errorf("%s has no process: it is %s", slot, s.current())
	}
	if p.journal == nil {
		p.dump()
		return "", fmt.Errorf("%s has the terminal: its stacks are there", slot)
	}
	lines := p.dump()
	if len(lines) == 0 {
		return "", fmt.Errorf("%s has printed no stacks: it still boots, or uses the signal itself", slot)
	}
	return text(lines), nil
}

// replaceLater has a worker replaced in its turn; false when it will be already.
func (g *Group) replaceLater(s *slot, w *worker, why Reason) bool {
	s.mu.Lock()
	again := w.leaving != ""
	w.leaving = why
	s.mu.Unlock()
	if again {
		return false
	}
	o := g.o()
	o.Log.Info("worker is recycled", "slot", s.name, "group", o.Name, "pid", w.p.PID(), "reason", why)
	g.enqueue(job{slot: s, of: w, why: why})
	return true
}

func (g *Group) enqueue(j job) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, j)
	select {
	case g.jobs <- struct{}{}:
	default:
	}
}

func (g *Group) nextJob() (job, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return job{}, false
	}
	j := g.queue[0]
	g.queue = slices.Delete(g.queue, 0, 1)
	return j, true
}

// replaceInTurn makes the replacements, one after the other.
func (g *Group) replaceInTurn() {
	for {
		j, ok := g.nextJob()
		if !ok {
			select {
			case <-g.ctx.Done():
				return
			case <-g.jobs:
			}
			continue
		}
		err := g.perform(j)
		if j.done != nil {
			j.done <- err
		}
		if g.ctx.Err() != nil {
			return
		}
	}
}

func (g *Group) perform(j job) error {
	if j.of != nil {
		j.slot.mu.Lock()
		gone := j.slot.front != j.of || j.of.state != Serving
		j.slot.mu.Unlock()
		if gone {
			return nil // it has ended meanwhile, and with it the reason
		}
	}
	done := make(chan error, 1)
	j.slot.order(order{what: replace, why: j.why, done: done})
	err := g.await(g.ctx, done)
	if err != nil && j.of != nil {
		g.wait.Go(func() { g.tryAgain(j) })
	}
	return err
}

// tryAgain repeats a replacement that failed, unless the worker has ended meanwhile.
func (g *Group) tryAgain(j job) {
	t := time.NewTimer(replaceAgain)
	defer t.Stop()
	select {
	case <-g.ctx.Done():
	case <-t.C:
		g.enqueue(j)
	}
}
