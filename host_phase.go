package guado

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/gate"
	"github.com/guado-server/guado/internal/item"
)

// crossing is a change of server.phase under way by which items, or all that the host knows
// of clients, come or go. Requests wait while it is in its narrowest part: between the last
// answer of the worker of before and the first one of its successor.
type crossing struct {
	from, to *host
	group    string // whose worker is asked for its items
	once     sync.Once
	failed   error
	paused   bool                   // by this; an operator's own pause stays
	copied   bool                   // what memory alone has, into files
	taken    atomic.Pointer[Handed] // what the new worker has taken over; nil: nothing
	gave     *Handed                // to the register of before; nil: nothing yet
	given    map[string]bool        // connections without a browser that there were before
}

// cross opens what a higher phase needs, and begins a crossing where there is one.
func (t *transaction) cross() (*crossing, error) {
	h, from, to := t.to, t.from.config.Server.Phase, t.to.config.Server.Phase
	if from == to {
		return nil, nil //nolint:nilnil // nothing to cross
	}
	if err := h.openParts(); err != nil {
		return nil, err
	}
	if from < phasePush && to >= phasePush {
		if err := h.openPrograms(); err != nil {
			return nil, err
		}
		t.undone = append(t.undone, func() { t.log("socket of programs", h.closePrograms()) })
	}
	if (from < phasePush) == (to < phasePush) && (from < phaseStores) == (to < phaseStores) {
		return nil, nil //nolint:nilnil // both know the same
	}
	c := &crossing{from: t.from, to: h, group: h.config.StateGroup()}
	if c.group == "" {
		c.group = t.from.config.StateGroup()
	}
	t.undone = append(t.undone, c.undo)
	if c.takes() {
		c.given = map[string]bool{}
		for _, id := range h.identity.Given() {
			c.given[id] = true
		}
	}
	h.phases.crossing.Store(c)
	return c, nil
}

// crossed does the rest of a crossing, when nothing can fail any more but this.
func (t *transaction) crossed(ctx context.Context) error {
	c := t.crossing
	if c == nil {
		return nil
	}
	if err := c.hold(ctx); err != nil { // perhaps no worker has asked
		return err
	}
	done := c.taken.Load()
	if done == nil && c.takes() && t.to.phases.giving() {
		done = &Handed{At: time.Now()}
	}
	if done == nil {
		return nil
	}
	err := c.copy(t.to)
	if err == nil {
		err = t.to.mark(done)
	}
	if err != nil {
		err = errors.Join(err, t.to.unmark())
	}
	return err
}

// copy keeps what memory alone has until the step is taken, or is not: nobody has been told that
// a step may cost it.
func (c *crossing) copy(h *host) error {
	if h.kept.keeps() || c.copied {
		return nil
	}
	c.copied = true
	return h.copyState()
}

func (h *host) copyState() error {
	dir := h.config.Server.StateDir
	return errors.Join(h.identity.Copy(), h.pages.Copy(dir, h.topics.of), h.stores.mirror.Save(dir), h.global.Save(dir))
}

// undo takes back what a step that is not taken has done to the items.
func (c *crossing) undo() {
	h := c.from
	switch {
	case c.gave != nil:
		if err := h.mark(c.gave); err != nil {
			h.log.Error("the next start will take the items out of the register of before again, and what is written until then is lost; take the step again", "error", err)
		}
	case c.takes():
		for _, id := range h.identity.Given() {
			if !c.given[id] {
				h.registry.Drop(item.Connection, id, true)
			}
		}
		h.dropAlone()
		h.stores.clear()
		h.global.Clear()
	}
}

// dropAlone ends users without connections: nobody but a register, or the application, has made
// them.
func (h *host) dropAlone() {
	for _, u := range h.identity.Users() {
		if len(h.identity.ConnectionsOf(u.Name)) == 0 {
			h.registry.Drop(item.User, u.Name, false)
		}
	}
}

// openParts opens what the phase needs and is not open. It stays open until the server
// stops: who serves finds it by the phase.
func (h *host) openParts() error {
	if err := h.openIdentity(); err != nil {
		return err
	}
	if h.replay == nil {
		h.openReplay()
	}
	h.openPages()
	h.openRegistry()
	h.openStores()
	h.openEvents()
	h.openGlobal()
	h.keepKinds()
	if h.now() != h && !h.kept.begun.Load() { // a server that starts restores first
		return h.beginKept()
	}
	return nil
}

// hold lets no request to a worker any more, waits for those that are there, and lets the
// worker of before give its items back where they would be lost.
func (c *crossing) hold(ctx context.Context) error {
	c.once.Do(func() { c.failed = c.stop(ctx) })
	return c.failed
}

func (c *crossing) stop(ctx context.Context) error {
	h := c.from
	switch err := h.gate.Pause(gate.Hold{}); {
	case err == nil:
		c.paused = true
	case !errors.Is(err, gate.ErrPaused):
		return err
	}
	s := &c.to.config.Server
	patience, cancel := context.WithTimeoutCause(ctx, min(s.GracefulTimeout.Std(), s.Pause.Wait.Std()/2), errStillBusy)
	defer cancel()
	if h.gate.Idle(patience) != nil {
		return fmt.Errorf("%w: %d; take the step when less goes on", errStillBusy, h.gate.Status().InFlight)
	}
	for _, g := range h.groups {
		if g.config.Name == c.group && g.pool.Idle(patience) != nil {
			return fmt.Errorf("%w behind their answers", errStillBusy)
		}
	}
	if c.from.config.Server.Phase < phaseStores || c.to.config.Server.Phase >= phaseStores {
		return nil
	}
	if err := c.copy(h); err != nil {
		return err
	}
	done, err := h.giveBack(ctx, c.group)
	if err != nil {
		return err
	}
	c.gave = done
	return h.unmark()
}

var errStillBusy = errors.New("requests of before are still under way")

// end lets requests come again.
func (c *crossing) end() {
	if c == nil {
		return
	}
	c.to.phases.crossing.Store(nil)
	if c.copied {
		c.copied = false
		if err := c.to.forgetFiles(); err != nil {
			c.to.log.Error("files of the step cannot be removed; the next start would bring back who was known now", "error", err)
		}
	}
	if c.paused {
		c.paused = false
		c.to.gate.Resume()
	}
}

// takes reports whether the items of the register of before are to be taken over.
func (c *crossing) takes() bool {
	return c.from.config.Server.Phase < phaseStores && c.to.config.Server.Phase >= phaseStores
}

// residence notes from when on pages are resident: what is said of that counts from there.
func (t *transaction) residence() {
	if t.from.config.Server.Phase < phaseResident && t.to.config.Server.Phase >= phaseResident {
		st := t.to.pages.Status()
		t.to.phases.resident.Store(&st)
	}
}

// endPages ends all pages where the step is one to phase 0. Their last turns run in the workers
// that have had them, beside requests of the new phase.
func (t *transaction) endPages() {
	h := t.to
	if t.from.config.Server.Phase < phasePush || h.config.Server.Phase >= phasePush {
		return
	}
	h.phases.closing.Store(t.from)
	t.crossing.end()
	ctx, cancel := context.WithTimeout(h.server.cut, h.config.Server.GracefulTimeout.Std())
	defer cancel()
	if n := h.pages.EndAll(ctx); n > 0 {
		h.log.Warn("on_close of pages is cut", "pages", n, "because", whyCut(h.server.cut))
	}
	h.phases.closing.Store(nil)
}

// leave forgets what there is no more in the phase that is now the server's, once nobody
// can ask for it.
func (t *transaction) leave() {
	h, from, to := t.to, t.from.config.Server.Phase, t.to.config.Server.Phase
	if from >= phaseStores && to < phaseStores {
		for _, id := range h.identity.Given() {
			h.registry.Drop(item.Connection, id, true)
		}
		h.dropAlone()
		h.stores.clear()
		h.global.Clear()
	}
	if from < phasePush || to >= phasePush {
		return
	}
	for _, u := range h.identity.Users() {
		h.registry.Drop(item.User, u.Name, false)
	}
	for _, c := range h.identity.Connections() {
		h.registry.Drop(item.Connection, c.ID, false)
	}
	t.log("socket of programs", h.closePrograms())
}

// phaseVerbs are what workers ask when they come into a phase, and when they leave one.
func (h *host) phaseVerbs() {
	h.calls.HandleWaiting("phase.enter", h.callEnter)
	h.calls.Handle("phase.entered", h.callEntered)
	h.calls.HandleWaiting("phase.leave", h.callLeave)
	h.calls.Handle("phase.left", h.callLeft)
	h.calls.HandleEnd(func(c calls.Caller) {
		h.phases.settle(c.Worker, Handed{Error: "the worker has ended"})
	})
}

// callEnter lets a worker that has booted come into the phase, and tells whether it has to
// take over the items of the register of before.
func (h *host) callEnter(ctx context.Context, c calls.Caller, _ []byte) (any, error) {
	if x := h.phases.crossing.Load(); x != nil {
		if x.group != c.Group {
			return entering{}, nil
		}
		return entering{Take: x.takes()}, x.hold(ctx)
	}
	now := h.now()
	return entering{Take: now.keeps() && c.Group == now.config.StateGroup() && untaken(now.config.Server.StateDir)}, nil
}

type entering struct {
	Take bool `json:"take"`
}

// callEntered hears what a worker has taken over.
func (h *host) callEntered(_ context.Context, c calls.Caller, data []byte) (any, error) {
	var done Handed
	if err := calls.Decode(data, &done); err != nil {
		return nil, err
	}
	done.At = time.Now()
	h.phases.note(h.log, "items of the register of before are here", c.Slot, done)
	if done.wrong() != nil {
		return nil, nil //nolint:nilnil,nilerr // the worker knows it, and ends
	}
	if x := h.phases.crossing.Load(); x != nil {
		x.taken.Store(&done) // the step may still not be taken
		return nil, nil      //nolint:nilnil // there is nothing to tell
	}
	return nil, h.now().mark(&done)
}

// callLeave waits until the worker is to give its items back.
func (h *host) callLeave(ctx context.Context, c calls.Caller, _ []byte) (any, error) {
	g := h.phases.waits(c)
	// A register that was made by the first request has its items here, and no boot has said so.
	if now := h.now(); now.keeps() && c.Group == now.config.StateGroup() && h.phases.crossing.Load() == nil && untaken(now.config.Server.StateDir) {
		if err := now.mark(&Handed{At: time.Now()}); err != nil {
			return nil, err
		}
	}
	select {
	case <-g.asked:
		return map[string]bool{"give": true}, nil
	case <-ctx.Done():
		h.phases.gone(c.Worker)
		return nil, context.Cause(ctx)
	}
}

func (h *host) callLeft(_ context.Context, c calls.Caller, data []byte) (any, error) {
	var done Handed
	if err := calls.Decode(data, &done); err != nil {
		return nil, err
	}
	h.phases.settle(c.Worker, done)
	return nil, nil //nolint:nilnil // there is nothing to tell
}

// giveTime is how long a worker may take to give all its items back.
const giveTime = 5 * time.Minute

// giveBack has the workers of a group give their items to the register of before. It tells what
// became of them; nil: there is no such register.
func (h *host) giveBack(ctx context.Context, group string) (given *Handed, err error) {
	ctx, cancel := context.WithTimeout(ctx, giveTime)
	defer cancel()
	if !untaken(h.config.Server.StateDir) {
		if err := h.awaitGiver(ctx, group); err != nil {
			return nil, err
		}
	}
	all := h.phases.ask(group)
	if n := h.stores.mirror.Status().Stores; len(all) == 0 && n > 0 {
		h.log.Warn("no register is named for what stores hold (register of [[app]]): it ends with the step", "stores", n)
	}
	for _, g := range all {
		select {
		case done := <-g.told:
			h.phases.note(h.log, "items were given to the register of before", g.slot, done)
			if err := done.wrong(); err != nil {
				return nil, fmt.Errorf("give the items back: %w", err)
			}
			given = &done
		case <-ctx.Done():
			return nil, fmt.Errorf("give the items back: %w", context.Cause(ctx))
		}
	}
	return given, nil
}

// A worker says that it can give items back as soon as it serves: within so much, where there is
// a register at all.
const (
	giverPatience = 30 * time.Second
	noneNamed     = 5 * time.Second
)

// awaitGiver waits until a worker can give the items back that were taken over.
func (h *host) awaitGiver(ctx context.Context, group string) error {
	patience := noneNamed
	for i := range h.config.Apps {
		if h.registerOf(&h.config.Apps[i]) != "" {
			patience = giverPatience
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if h.phases.await(ctx, group) != nil {
		return fmt.Errorf("no worker of group %s can give the items back that were taken over: name their register (register of [[app]]), or remove %s if they are to be lost",
			group, filepath.Join(h.config.Server.StateDir, markerFile))
	}
	return nil
}

// enters reports whether the workers of a group ask before they are ready.
func (h *host) enters(group string) bool {
	if x := h.phases.crossing.Load(); x != nil && x.group == group {
		return true
	}
	for i := range h.config.Apps {
		if a := &h.config.Apps[i]; a.Group == group && h.registerOf(a) != "" {
			return true
		}
	}
	return false
}

// registerOf is the register of before of an application whose items the host has.
func (h *host) registerOf(a *config.App) string {
	if h.config.Server.Phase < phaseStores || a.Group != h.config.StateGroup() {
		return ""
	}
	return a.Register
}

// inPlace says of keys that need a restart, and are as they were asked to be, that they do not:
// what they are about begins with this step.
func (h *host) inPlace(changes []config.Change, c *Config) []config.Change {
	kept := map[string]bool{}
	for _, change := range h.config.Diff(c) {
		kept[change.Key] = true
	}
	for i := range changes {
		if changes[i].Class == config.Restart && kept[changes[i].Key] {
			changes[i].Class = config.Workers
		}
	}
	if c.Server.Phase > 0 {
		return changes
	}
	// In phase 0 nobody has the folder, and the default is another one.
	return slices.DeleteFunc(changes, func(change config.Change) bool { return change.Key == "server.state_dir" })
}

// keep takes over what needs a restart. Where the state is, is open until somebody has it.
func (h *host) keep(c *Config) {
	dir := c.Server.StateDir
	c.Keep(h.config)
	if h.identity == nil {
		c.Server.StateDir = dir
	}
}
