package guado

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/supervise"
)

// Reload is what became of a new configuration.
type Reload struct {
	// Changes are the keys that are different, each with what its change needed. Those
	// that need a restart have kept their value.
	Changes []config.Change `json:"changes"`
	// Replaced are the groups whose workers were replaced.
	Replaced []string `json:"replaced"`
	Seconds  float64  `json:"seconds"`
}

// Reload reads certificates again and opens log files anew, for rotation; then it reads
// the configuration ([Server.Load]) and puts it in place as one transaction: all of it,
// but for what needs a restart, or nothing. Workers are replaced one by one, each when its
// successor serves; where others cannot boot, the server goes on as it was. It returns
// when what was replaced has ended.
func (s *Server) Reload(ctx context.Context) (*Reload, error) {
	h := s.running()
	if h == nil {
		return nil, errNotRunning
	}
	return h.reload(ctx)
}

var (
	errStarting = errors.New("the server is still starting; its configuration cannot change yet")
	errStopping = errors.New("the server is stopping")
)

func (h *host) reload(ctx context.Context) (*Reload, error) {
	ctx, done, err := h.reloads.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	h.manager.Reloading()
	defer h.manager.Reloaded()
	began := time.Now()
	h = h.now()
	if err := errors.Join(h.edge.ReloadTLS(), h.edge.ReopenLog(), h.programs.Reopen()); err != nil {
		h.log.Error("reload: certificates or log files", "error", err)
	}
	if h.server.Load == nil {
		return &Reload{Changes: []config.Change{}, Replaced: []string{}}, nil
	}
	answer, err := h.replace(ctx)
	if err == nil {
		h.now().thaw()
		answer.Seconds = math.Round(time.Since(began).Seconds()*1000) / 1000
	}
	h.reloads.note(answer, err)
	return answer, err
}

// thaw has what is frozen tried again, though its configuration is the same: its code
// may be another.
func (h *host) thaw() {
	for _, g := range h.groups {
		if slots := g.workers.Thaw(supervise.ByReload); len(slots) > 0 {
			h.log.Info("frozen workers are started anew", "group", g.config.Name, "slots", slots)
		}
	}
}

// replace puts the configuration in place that the file has now.
func (h *host) replace(ctx context.Context) (*Reload, error) {
	if h.state.Load() == Starting {
		return nil, errStarting
	}
	c, err := h.server.Load()
	if err != nil {
		return nil, err
	}
	keepHandlers(c, h.config)
	return h.become(ctx, c)
}

// become makes c what the server is, in one transaction.
func (h *host) become(ctx context.Context, c *Config) (*Reload, error) {
	t := &transaction{from: h, changes: h.config.Diff(c)}
	answer := &Reload{Changes: t.changes, Replaced: []string{}}
	if len(t.changes) == 0 {
		answer.Changes = []config.Change{}
		return answer, nil
	}
	h.keep(c)
	t.changes = h.inPlace(t.changes, c)
	answer.Changes = t.changes
	if was, is := h.config.StateGroup(), c.StateGroup(); was != is && was != "" && is != "" {
		return nil, fmt.Errorf("the group %s has users, connections and pages; it cannot go or give them away while the server runs: restart it", was)
	}
	t.to = &host{
		base: h.base, config: c, slots: h.slots,
		apps: map[string]exchange.Handler{}, tasks: map[string]exchange.Handler{}, turns: map[string]exchange.Handler{},
	}
	x, err := t.cross()
	t.crossing = x
	defer x.end()
	if err == nil {
		err = t.run(ctx)
	}
	if err != nil {
		t.undo()
		return nil, err
	}
	for _, g := range slices.Concat(t.fresh, t.renewed()) {
		answer.Replaced = append(answer.Replaced, g.config.Name)
	}
	return answer, nil
}

// keepHandlers adds the Go handlers that the program has mounted, of which no file knows,
// unless what it reads has them already.
func keepHandlers(c, before *Config) {
	for i := range before.Mounts {
		m := &before.Mounts[i]
		same := func(o config.Mount) bool { return o.Handler != nil && o.Host == m.Host && o.Path == m.Path }
		if m.Handler != nil && !slices.ContainsFunc(c.Mounts, same) {
			c.Mounts = append(c.Mounts, *m)
		}
	}
}

// transaction takes a server from one configuration to another.
type transaction struct {
	from, to *host
	changes  []config.Change
	fresh    []*group  // to be started
	leaving  []*group  // to be ended
	renewals []renewal // whose workers are to be replaced
	crossing *crossing // nil: the phase is the same, or asks for none
	undone   []func()  // what takes back what was done, in the order in which it was done
}

// renewal is a group that stays, with other workers.
type renewal struct {
	group   *group // as it will be
	before  *group
	options supervise.Options
}

func (t *transaction) renewed() []*group {
	all := make([]*group, 0, len(t.renewals))
	for _, r := range t.renewals {
		all = append(all, r.group)
	}
	return all
}

// run does all that can fail, and then what cannot.
func (t *transaction) run(ctx context.Context) error {
	h := t.to
	t.undone = append(t.undone, func() { t.log("closing what was made", closeAll(h.closers)) })
	if err := h.addGroups(ctx, t.choose); err != nil {
		return err
	}
	for _, g := range t.from.groups {
		if !slices.ContainsFunc(h.groups, func(o *group) bool { return o.config.Name == g.config.Name }) {
			t.leaving = append(t.leaving, g)
		}
	}
	table, err := h.routes()
	if err != nil {
		return err
	}
	h.road = newRoad(h, table)
	first, behind, err := h.front(h.road)
	if err != nil {
		return err
	}
	if err := h.open(t.from.sockets); err != nil {
		return err
	}
	t.undone = append(t.undone, func() { t.log("closing what was opened", closeNew(h.sockets, t.from.sockets)) })
	traces, err := t.traces(ctx)
	if err != nil {
		return err
	}
	h.first = first
	options, err := h.edgeOptions(h.probes(first))
	if err != nil {
		return err
	}
	metrics, err := t.metrics()
	if err != nil {
		return err
	}
	edge, err := h.edge.Prepare(options)
	if err != nil {
		return err
	}
	discard := len(t.undone)
	t.undone = append(t.undone, func() { t.log("closing what was made", edge.Discard()) })
	ended, err := t.programs(ctx)
	if err != nil {
		return err
	}
	// Workers may call an executor as soon as they boot.
	h.executors.Add(h.executorOptions())
	t.undone = append(t.undone, h.executors.Keep)
	if err := t.crews(ctx); err != nil {
		return err
	}
	if err := t.crossed(ctx); err != nil {
		return err
	}
	t.undone[discard] = func() {}
	t.log("access log or listeners", edge.Apply())
	h.current.Store(h)
	t.residence()
	metrics()
	behind()
	t.tune()
	traces()
	t.endPages()
	t.retire(h.executors.Change(h.executorOptions()))
	ended()
	t.leave()
	h.revoke()
	h.keepTopics()
	return nil
}

// crews starts the workers of new groups and replaces those of others.
func (t *transaction) crews(ctx context.Context) error {
	turn := func(g *group) int {
		switch {
		case t.to.executes(g.config):
			return 0
		case g.hello.Entering: // last, because requests wait meanwhile
			return 2
		}
		return 1
	}
	slices.SortStableFunc(t.fresh, func(a, b *group) int { return cmp.Compare(turn(a), turn(b)) })
	slices.SortStableFunc(t.renewals, func(a, b renewal) int { return cmp.Compare(turn(a.group), turn(b.group)) })
	for _, g := range t.fresh {
		if err := t.launch(ctx, g); err != nil {
			return fmt.Errorf("group %s: %w", g.config.Name, err)
		}
	}
	for i := range t.renewals {
		if err := t.renew(ctx, &t.renewals[i]); err != nil {
			return fmt.Errorf("group %s: %w", t.renewals[i].group.config.Name, err)
		}
	}
	return nil
}

// undo takes back what was done.
func (t *transaction) undo() {
	for _, take := range slices.Backward(t.undone) {
		take()
	}
}

func (t *transaction) log(what string, err error) {
	if err != nil {
		t.to.log.Warn("reload: "+what, "error", err)
	}
}

// choose says what becomes of a group: it stays, stays with other workers, or is a new
// one, which is also what a group with other applications is: a worker of before could
// not answer for them.
func (t *transaction) choose(made *group, o supervise.Options) *group {
	i := slices.IndexFunc(t.from.groups, func(g *group) bool { return g.config.Name == made.config.Name })
	if i < 0 {
		made.roll = newRoll(made)
		t.fresh = append(t.fresh, made)
		return made
	}
	before := t.from.groups[i]
	if !slices.Equal(before.hello.Apps, made.hello.Apps) || len(before.slots) != made.config.Workers {
		made.slots = slices.Clone(before.slots)
		made.roll = newRoll(made)
		t.fresh, t.leaving = append(t.fresh, made), append(t.leaving, before)
		return made
	}
	for _, a := range made.hello.Apps {
		of, name := t.to.handlers(made, a)
		from, _ := t.from.handlers(made, a)
		of[name] = from[name]
	}
	stays := &group{
		config: made.config, interpreter: made.interpreter, hello: made.hello,
		pool: before.pool, workers: before.workers, slots: before.slots,
	}
	if t.needsOthers(before, made) {
		t.renewals = append(t.renewals, renewal{group: stays, before: before, options: o})
	}
	return stays
}

// needsOthers reports whether the workers of a group are not as they would be made now.
func (t *transaction) needsOthers(before, made *group) bool {
	process := func(g *config.Group) config.Process {
		p := g.Process
		p.Queue, p.QueueWait = 0, 0 // live
		return p
	}
	server := slices.ContainsFunc(t.changes, func(c config.Change) bool {
		table, _ := c.About()
		return table == "" && c.Class == config.Workers
	})
	return server || before.interpreter.Executable != made.interpreter.Executable ||
		!slices.Equal(before.hello.Executors, made.hello.Executors) ||
		!reflect.DeepEqual(process(before.config), process(made.config))
}

// provePatience is how long a program that a reload has started may take to be ready
// when it has no ready_timeout.
const provePatience = time.Minute

// programs replaces the programs that are different, and waits until they are ready.
// Those that are no longer wanted go on until the workers that may need them have ended:
// the function that it gives ends them.
func (t *transaction) programs(ctx context.Context) (ended func(), err error) {
	names := map[string]bool{}
	for _, c := range t.changes {
		if table, name := c.About(); table == "program" {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return func() {}, nil
	}
	changed := func(name string) bool { return names[name] }
	never := func(string) bool { return false }
	server, set := t.from.server, t.from.programs
	before, err := programSpecs(server, t.from.config)
	if err != nil {
		return nil, err
	}
	after, err := programSpecs(server, t.to.config)
	if err != nil {
		return nil, err
	}
	t.to.own(after)
	meanwhile := slices.Clone(after)
	for _, spec := range before {
		if !slices.ContainsFunc(t.to.config.Programs, func(p config.Program) bool { return p.Name == spec.Program }) {
			meanwhile = append(meanwhile, spec)
			names[spec.Program] = false
		}
	}
	t.undone = append(t.undone, func() { set.Replace(before, changed) })
	set.Replace(meanwhile, changed)
	var started []string
	patience := provePatience
	for i := range t.to.config.Programs {
		if p := &t.to.config.Programs[i]; names[p.Name] {
			started = append(started, p.Name)
			patience = max(patience, p.ReadyTimeout.Std()+provePatience)
		}
	}
	return func() { set.Replace(after, never) }, set.Prove(ctx, started, patience)
}

// launch starts the workers of a new group and waits until all of them serve.
func (t *transaction) launch(ctx context.Context, g *group) error {
	h := t.to
	if err := t.await(ctx, g); err != nil {
		return err
	}
	t.undone = append(t.undone, func() {
		g.pool.Stop()
		g.workers.Drain(h.server.cut)
	})
	g.workers.Start()
	select {
	case err := <-g.workers.FirstBoot():
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	patience := time.NewTimer(g.config.BootTimeout.Std())
	defer patience.Stop()
	for ready := range g.config.Workers {
		select {
		case <-g.roll.ready:
		case <-patience.C:
			return fmt.Errorf("%d of %d workers became ready", ready, g.config.Workers)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// await waits for the programs that a group comes after, as long as for its workers.
func (t *transaction) await(ctx context.Context, g *group) error {
	ctx, cancel := context.WithTimeoutCause(ctx, g.config.BootTimeout.Std(), errNotReady)
	defer cancel()
	if t.to.programs.Await(ctx, g.config.After) != nil {
		return fmt.Errorf("programs that it comes after (%s): %w", strings.Join(g.config.After, ", "), context.Cause(ctx))
	}
	return nil
}

var errNotReady = errors.New("not ready within its boot_timeout")

// renew replaces the workers of a group one by one.
func (t *transaction) renew(ctx context.Context, r *renewal) error {
	workers, was := r.group.workers, supervise.Options{}
	workers.Change(func(o *supervise.Options) {
		was = *o
		o.Hello, o.Calls, o.Command, o.Link = r.options.Hello, r.options.Calls, r.options.Command, r.options.Link
		o.BootTimeout, o.PingTimeout, o.HangTimeout = r.options.BootTimeout, r.options.PingTimeout, r.options.HangTimeout
		o.ExitTimeout, o.DrainMax, o.SlowRequest = r.options.ExitTimeout, r.options.DrainMax, r.options.SlowRequest
		o.FreezeAfter, o.OutputLimit, o.Limits = r.options.FreezeAfter, r.options.OutputLimit, r.options.Limits
	})
	r.group.pool.Tune(tuning(r.group.config))
	var done []string
	t.undone = append(t.undone, func() {
		workers.Change(func(o *supervise.Options) { *o = was })
		r.group.pool.Tune(tuning(r.before.config))
		for _, slot := range done {
			t.log("taking back a worker", workers.ReplaceSlot(t.to.server.cut, slot, supervise.ByReload))
		}
	})
	for _, slot := range workers.Newest() {
		if err := workers.ReplaceSlot(ctx, slot, supervise.ByReload); err != nil {
			return err
		}
		done = append(done, slot)
	}
	return nil
}

func tuning(g *config.Group) pool.Tuning {
	return pool.Tuning{Queue: g.Queue, QueueWait: g.QueueWait.Std(), Threads: g.Threads, Concurrency: g.Concurrency}
}

// tune changes what needs nothing else.
func (t *transaction) tune() {
	h := t.to
	for _, g := range h.groups {
		g.pool.Tune(tuning(g.config))
		g.workers.Change(func(o *supervise.Options) { o.GracefulTimeout = h.config.Server.GracefulTimeout.Std() })
	}
	for name, app := range h.apps {
		if a, ok := app.(*pool.App); ok {
			a.Tune(h.appOptions(name))
		}
	}
	for name, turns := range h.turns {
		if a, ok := turns.(*pool.App); ok {
			a.Tune(h.turnOptions(name))
		}
	}
	h.spool.Tune(spoolOptions(h.config))
	if h.server.Level != nil {
		t.log("log level", h.server.Level.UnmarshalText([]byte(h.config.Server.LogLevel)))
	}
}

// retire ends what belongs to the configuration of before alone: groups when no request
// is on its way to them or with them, or after the graceful timeout. The tasks of
// executors are through when the channels are closed.
func (t *transaction) retire(tasks []<-chan struct{}) {
	h := t.from
	h.road.retire()
	t.to.reloads.left(h.road)
	if len(t.leaving) == 0 {
		return
	}
	graceful, cancel := context.WithTimeout(h.server.cut, t.to.config.Server.GracefulTimeout.Std())
	defer cancel()
	for _, through := range append([]<-chan struct{}{h.road.empty}, tasks...) {
		select {
		case <-through:
		case <-graceful.Done():
		}
	}
	t.to.executors.Keep() // who could call those that are gone has been answered
	for _, g := range t.leaving {
		if g.pool.Idle(graceful) != nil {
			h.log.Warn("requests to workers that were replaced are cut", "group", g.config.Name, "because", whyCut(h.server.cut))
		}
		g.pool.Stop()
		g.workers.Drain(h.server.cut)
	}
}

// roll is the crew of a group that must be there as a whole before requests come to it.
type roll struct {
	*pool.Pool
	ready chan struct{}
}

func newRoll(g *group) *roll {
	return &roll{Pool: g.pool, ready: make(chan struct{}, g.config.Workers)}
}

// Attach see [supervise.Crew].
func (r *roll) Attach(slot string, l *link.Link, ready link.Ready) {
	r.Pool.Attach(slot, l, ready)
	select {
	case r.ready <- struct{}{}:
	default: // all were there already: this one replaces another
	}
}

// askReload is the action of the admin interface.
func (h *host) askReload(ctx context.Context, _ admin.Call) (any, error) {
	answer, err := h.reload(ctx)
	if err != nil {
		return nil, unchanged(ctx, err)
	}
	return answer, nil
}

// unchanged is why the server goes on as it was, for the one who asked.
func unchanged(ctx context.Context, err error) error {
	problems, wrong := config.AsProblems(err)
	var boot *link.BootError
	switch {
	case wrong:
		list := make([]string, 0, len(problems))
		for _, p := range problems {
			list = append(list, p.Error())
		}
		return &admin.Refusal{Status: http.StatusUnprocessableEntity, Code: "bad_config", Message: "the configuration is wrong; the server goes on as it was", Detail: map[string]any{"problems": list}}
	case errors.Is(err, errStopping), ctx.Err() != nil:
		return context.Canceled
	case errors.As(err, &boot):
		detail := map[string]any{"app": boot.App, "traceback": boot.Traceback, "hint": boot.Hint}
		maps.DeleteFunc(detail, func(_ string, v any) bool { return v == "" })
		return &admin.Refusal{Status: http.StatusConflict, Code: "reload_failed", Message: "the server goes on as it was: " + err.Error(), Detail: detail}
	}
	return &admin.Refusal{Status: http.StatusConflict, Code: "reload_failed", Message: "the server goes on as it was: " + err.Error()}
}
