package guado

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/clock"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/edge/compress"
	"github.com/guado-server/guado/internal/edge/http2"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/events"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/executor"
	"github.com/guado-server/guado/internal/gate"
	"github.com/guado-server/guado/internal/globalstore"
	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/push/transport"
	"github.com/guado-server/guado/internal/redirect"
	"github.com/guado-server/guado/internal/registry"
	"github.com/guado-server/guado/internal/replay"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/internal/service"
	"github.com/guado-server/guado/internal/static"
	"github.com/guado-server/guado/internal/supervise"
	"github.com/guado-server/guado/internal/upstream"
	"github.com/guado-server/guado/internal/version"
	"github.com/guado-server/guado/internal/websocket"
	"github.com/guado-server/guado/internal/wsx"
	"github.com/guado-server/guado/python"
)

// host is a running server as one configuration makes it: the one place where the
// steps of the road meet. Another configuration is another host (see reload), which has
// the base in common with it; what a host has of its own does not change once it is
// current.
type host struct {
	*base
	config  *Config
	below   *Config // of a server that takes a step back to its end before it serves; else nil
	sockets []socket
	tracer  *observe.Tracer // nil: nobody has traces
	groups  []*group
	tasks   map[string]exchange.Handler // what runs the tasks of an executor
	apps    map[string]exchange.Handler
	turns   map[string]exchange.Handler // what calls the handlers of an application's pages
	closers []io.Closer
	road    *road
	table   *route.Table     // of its mounts
	origins *websocket.Step  // who may use push
	first   exchange.Handler // what a request meets first
	slots   int              // the highest number that a slot has had
}

// base is what a running server has under every configuration.
type base struct {
	server     *Server
	current    atomic.Pointer[host]
	reloads    *reloads
	log        *slog.Logger
	instance   string
	started    time.Time
	stdout     *supervise.Lines
	stderr     *supervise.Lines
	spawner    *child.Spawner
	spool      *pool.Spool
	programs   *program.Set
	held       sync.WaitGroup     // groups that wait for programs
	unhold     context.CancelFunc // ends that wait
	executors  *executor.Hub
	calls      *calls.Mux         // what workers ask of the host itself
	clock      *clock.Clock       // by which users, connections and pages live
	identity   *identity.Server   // nil: phase 0
	registry   *registry.Registry // nil: phase 0
	stores     *stores            // nil: below phase 4
	replay     *replay.Store
	kept       kept // what survives the host
	pageIndex  pageIndex
	pages      *pages.Pages      // nil: phase 0
	hub        *push.Hub         // of the sessions of pages; nil likewise
	push       *transport.Server // what carries them; nil likewise
	topics     pageTopics
	phases     phases
	gate       *gate.Gate
	websockets *websocket.Server
	wsx        wsx.Hub
	edge       *edge.Server
	watching   watching
	manager    *service.Manager // nil: none has started us
	journal    *admin.Journal
	admin      atomic.Pointer[admin.Server] // nil: none
	events     *events.Events               // nil in phase 0
	tables     *events.Tables               // likewise
	global     *globalstore.Store           // nil below phase 4
	window     atomic.Pointer[admin.Server] // of programs; nil: none
	tokens     admin.Tokens                 // theirs
	state      atomic.Value                 // State
	end        func(cut bool)               // makes Run return
}

// now is the host that serves. What may be called at any time begins with it.
func (b *base) now() *host { return b.current.Load() }

// group is the workers of one interpreter and the queue in front of them.
type group struct {
	config      *config.Group
	interpreter *runtime.Interpreter
	pool        *pool.Pool
	workers     *supervise.Group
	hello       link.Hello // what a worker is told, but for its slot
	slots       []string
	roll        *roll // of a group that a reload brings: who is ready
}

// newHost builds everything and opens the sockets; nothing is started yet.
func newHost(ctx context.Context, s *Server) (h *host, err error) {
	c, below := s.config, (*Config)(nil)
	switch up, err := s.unfinished(c); {
	case err != nil:
		return nil, err
	case up != nil:
		c, below = up, c
	default:
		if err := s.forgetClients(c); err != nil {
			return nil, err
		}
	}
	h = &host{config: c, below: below, apps: map[string]exchange.Handler{}, tasks: map[string]exchange.Handler{}, turns: map[string]exchange.Handler{}, base: &base{
		server: s, instance: rand.Text(), started: time.Now(), journal: admin.NewJournal(), reloads: newReloads(), calls: calls.New(), clock: clock.New(),
	}}
	h.current.Store(h)
	h.log = slog.New(h.journal.Handler(s.Log.Handler()))
	h.state.Store(Starting)
	h.spool = pool.NewSpool(spoolOptions(c))
	h.websockets = websocket.New(websocket.Options{Log: h.log})
	h.spawner = child.NewSpawner(child.Options{Instance: h.instance, Log: s.Log})
	defer func(h *host) { // as it is now: an error returns nil
		if err != nil {
			h.spawner.Close()
			h.closeEvents()
			h.closeGlobal()
			h.dropPages()
			if h.replay != nil {
				_ = h.closeReplay() // they were taken out of their file
			}
			_ = h.kept.close()
			_ = h.closeIdentity()
			_ = closeAll(h.closers) // the first error is the one to tell
			_ = h.unwatch(context.Background())
		}
	}(h)
	if err := h.openParts(); err != nil {
		return nil, err
	}
	h.phaseVerbs()
	h.stdout = supervise.NewLines(s.Stdout, func(source, line string) { h.journal.Line(source, "stdout", line) })
	h.stderr = supervise.NewLines(s.Stderr, func(source, line string) { h.journal.Line(source, "stderr", line) })
	if err := h.addGroups(ctx, func(g *group, _ supervise.Options) *group { return g }); err != nil {
		return nil, err
	}
	h.executors = executor.New(h.executorOptions())
	if err := h.addPrograms(s, h.stdout, h.stderr); err != nil {
		return nil, err
	}
	if err := h.watch(ctx); err != nil {
		return nil, err
	}
	table, err := h.routes()
	if err != nil {
		return nil, err
	}
	h.road = newRoad(h, table)
	if h.first, _, err = h.front(h.road); err != nil {
		return nil, err
	}
	if err := h.open(nil); err != nil {
		return nil, err
	}
	options, err := h.edgeOptions(h.probes(h.first))
	if err == nil {
		h.edge, err = edge.New(options)
	}
	if err != nil {
		_ = closeNew(h.sockets, nil) // as above
		return nil, err
	}
	return h, nil
}

// addGroups makes the groups of the configuration, whose workers do not run yet. choose
// may give another group in place of the new one, whose workers would have these options.
func (h *host) addGroups(ctx context.Context, choose func(*group, supervise.Options) *group) error {
	if len(h.config.Groups) == 0 {
		return nil
	}
	cache, err := runtime.Open(runtime.Options{
		Dir: h.config.Server.CacheDir, Environ: h.server.Environ, Files: python.Files, Log: h.log,
	})
	if err != nil {
		return err
	}
	for _, g := range h.allGroups() {
		in, err := cache.Find(ctx, g.Python, g.Dir, h.config.Dir)
		if err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		made, o, err := h.newGroup(g, in, cache)
		if err != nil {
			return err
		}
		made = choose(made, o)
		h.addApps(made)
		if made.workers == nil {
			h.nameSlots(made)
			o.Slots, o.Crew, o.RequestID = made.slots, made.pool, made.pool.RequestID
			if made.roll != nil {
				o.Crew = made.roll
			}
			made.workers = supervise.New(o)
		}
		h.groups = append(h.groups, made)
	}
	return nil
}

// nameSlots gives the slots of a group their names. They are numbered once per host, so
// that a slot's name is good in every group.
func (h *host) nameSlots(g *group) {
	for len(g.slots) < g.config.Workers {
		h.slots++
		slot := fmt.Sprintf("p%02d", h.slots)
		h.journal.Belongs(slot, g.config.Name)
		g.slots = append(g.slots, slot)
	}
	g.slots = g.slots[:g.config.Workers]
}

// newGroup makes a group without workers, and the options that they are to have.
func (h *host) newGroup(g *config.Group, in *runtime.Interpreter, cache *runtime.Cache) (*group, supervise.Options, error) {
	command, err := workerCommand(g, in, cache, h.server.Environ)
	if err != nil {
		return nil, supervise.Options{}, err
	}
	made := &group{config: g, interpreter: in}
	made.pool = pool.New(pool.Options{
		Name: g.Name, Queue: g.Queue, QueueWait: g.QueueWait.Std(), Threads: g.Threads,
		Concurrency: g.Concurrency, Workers: g.Workers, Spool: h.spool, Log: h.log,
		Dev:   h.config.Dev,
		Ahead: h.ahead, Behind: h.behind, Kept: h.gateAnswers(),
		Interrupted: func(l *link.Link) { made.workers.Recycle(l, supervise.ByInterrupt) },
	})
	made.hello = link.Hello{
		Version: version.Version, Instance: h.instance, Dir: g.Dir, Threads: g.Threads,
		Concurrency: g.Concurrency, Multiprocess: g.Workers > 1, Dev: h.config.Dev,
	}
	for i := range h.config.Apps {
		if a := &h.config.Apps[i]; a.Group == g.Name {
			made.hello.Apps = append(made.hello.Apps, link.App{Name: a.Name, Target: a.Target, Kind: a.Kind, Factory: a.Factory, Lifespan: a.Lifespan, Register: h.registerOf(a), File: h.config.Described(i)})
		}
	}
	h.addTurns(&made.hello)
	made.hello.Entering = h.enters(g.Name)
	h.callable(g, &made.hello)
	transport := h.config.Server.Transport
	if transport == "auto" {
		transport = ""
	}
	return made, supervise.Options{
		Name: g.Name, Hello: made.hello, Calls: h.callees(g.Name), Command: command,
		Link:    link.Options{Transport: transport, Ring: int(h.config.Server.Ring.Bytes()), Slots: linkSlots(g), Log: h.log, KeepErrors: h.config.Dev},
		Spawner: h.spawner, Stdout: h.stdout, Stderr: h.stderr, Log: h.log,
		BootTimeout: g.BootTimeout.Std(), PingTimeout: g.PingTimeout.Std(),
		GracefulTimeout: h.config.Server.GracefulTimeout.Std(), ExitTimeout: h.config.Server.ExitTimeout.Std(),
		DrainMax: g.DrainMax.Std(), HangTimeout: g.HangTimeout.Std(), SlowRequest: g.SlowRequest.Std(), FreezeAfter: g.FreezeAfter, OutputLimit: g.OutputLimit, Limits: lifetime(g),
		Terminal: h.config.Dev && len(h.config.Groups) == 1 && !h.executes(g),
	}, nil
}

// addApps says what answers as the applications of a group. A group that is known from
// before has them already.
func (h *host) addApps(g *group) {
	if g.workers != nil {
		return
	}
	for _, a := range g.hello.Apps {
		of, name := h.handlers(g, a)
		o := h.appOptions(name)
		if a.Pages != "" {
			o = h.turnOptions(name)
		}
		of[name] = g.pool.App(o)
	}
}

// appOptions is how the exchanges of an application, or of an executor, are handled.
func (h *host) appOptions(name string) pool.AppOptions {
	a := h.config.App(name)
	if a == nil {
		return pool.AppOptions{Name: name, Spool: true}
	}
	return pool.AppOptions{Name: name, Timeout: h.config.Deadline(a).Std(), Spool: a.Spool, RetrySafe: a.Retry == "safe"}
}

func spoolOptions(c *Config) pool.SpoolOptions {
	s := &c.Server.Spool
	return pool.SpoolOptions{Each: s.Each.Bytes(), Memory: s.Memory.Bytes(), Disk: s.Disk.Bytes(), Dir: s.Dir}
}

// linkSlots is how many requests may be with a worker at once; 0 is the link's own
// number, which is enough unless the configuration asks for more.
func linkSlots(g *config.Group) int {
	const usual, most = 16384, 1 << 16
	need := g.Concurrency + 2*g.Threads + pool.Prefetch
	if need <= usual {
		return 0
	}
	return min(need, most)
}

// bootstrap is what the interpreter is started with: it finds the worker's code and
// runs it, without a file of ours in the application's environment or on its path. It
// is LINE of python/guado/_bootstrap.py.
const bootstrap = "import importlib.util as u,os,sys;" +
	"p=os.path.join(os.environ['GUADO_PACKAGE'],'guado');" +
	"s=u.spec_from_file_location('guado',os.path.join(p,'__init__.py')," +
	"submodule_search_locations=[p]);" +
	"m=sys.modules['guado']=u.module_from_spec(s);" +
	"s.loader.exec_module(m);" +
	"from guado.worker.boot import main;" +
	"main()"

// routes makes the mount table.
func (h *host) routes() (_ *route.Table, err error) {
	var mounts []route.Mount
	for i := range h.config.Mounts {
		m := &h.config.Mounts[i]
		handler, err := h.handler(m)
		if err == nil {
			handler, err = h.policies(m, handler)
		}
		if err != nil {
			return nil, fmt.Errorf("mount %s%s: %w", m.Host, m.Path, err)
		}
		mounts = append(mounts, route.Mount{
			Name: m.Name, Host: m.Host, Path: m.Path, Keep: !m.Strip(), RootPath: m.RootPath,
			AddSlash: m.Kind() == config.MountStatic && m.Strip(), Handler: handler, Meter: h.watching.meter(m.Name),
		})
	}
	h.table, err = route.New(mounts)
	return h.table, err
}

// handler makes what answers at a mount.
func (h *host) handler(m *config.Mount) (exchange.Handler, error) {
	switch m.Kind() {
	case config.MountApp:
		return h.apps[m.App], nil
	case config.MountStatic:
		folder, err := static.New(static.Options{
			Dir: m.Static, Index: m.Index, TryFiles: m.TryFiles, SPA: m.Fallback,
			Precompressed: m.Precompressed, CacheControl: m.CacheControl, Hidden: m.Hidden,
			Exchange: gohandler.Exchange,
		})
		if err != nil {
			return nil, err
		}
		h.closers = append(h.closers, folder)
		return gohandler.Wrap(folder, h.log), nil
	case config.MountRedirect:
		return redirect.New(redirect.Options{To: m.Redirect, Code: m.Code, KeepPath: m.KeepPath})
	case config.MountUpstream:
		proxy, err := upstream.New(upstream.Options{
			Address: m.Upstream, Timeout: m.AnswerTimeout.Std(), Dial: m.ConnectTimeout.Std(),
			KeepHost: m.KeepHost, Log: h.log, Exchange: gohandler.Exchange,
		})
		if err != nil {
			return nil, err
		}
		h.closers = append(h.closers, proxy)
		return gohandler.Wrap(proxy, h.log), nil
	default:
		return gohandler.Wrap(m.Handler, h.log), nil
	}
}

func (h *host) edgeOptions(handler exchange.Handler) (edge.Options, error) {
	s := &h.config.Server
	proxies, unix, err := trusted(s.TrustedProxies)
	if err != nil {
		return edge.Options{}, err
	}
	o := edge.Options{
		NoHTTP2: !s.HTTP2, H2C: s.H2C, TrustedProxies: proxies, TrustUnix: unix,
		Forwarded: forwardedPolicies[s.Forwarded], ExposeRequestID: s.ExposeRequestID, HSTS: s.HSTS.Std(),
		ProxyProtocol: s.ProxyProtocol, ProxyTimeout: s.Timeouts.ProxyProtocol.Std(),
		Limits: lane.Limits{
			HeadBytes: int(s.Limits.Head), TargetBytes: int(s.Limits.Target), Fields: s.Limits.Fields,
			TrailerBytes: int(s.Limits.Trailers), BodyBytes: h.config.LargestBody(),
			HeadTimeout: never(s.Timeouts.Head), KeepAlive: never(s.Timeouts.KeepAlive),
			ReadIdle: never(s.Timeouts.ReadIdle), WriteIdle: never(s.Timeouts.WriteIdle),
			RequestsPerKA: s.Limits.RequestsPerConnection,
		},
		HTTP2:    http2.Tuning{Streams: s.Limits.HTTP2Streams, Resets: s.Limits.HTTP2Resets},
		MaxConns: s.Limits.Connections, MaxConnsPerAddr: s.Limits.ConnectionsPerAddress,
		Compress:   compress.Options{Codings: s.Compression, MinSize: int(s.CompressionMin)},
		AllowHosts: s.AllowHosts, AnyHost: h.probePaths(), AllowHeaders: s.AllowHeaders,
		Handler: handler, Log: h.log, Observe: h.observer(),
		Listeners: h.listeners(),
	}
	if h.tracer != nil {
		o.TraceOneIn = h.config.Trace.OneIn
	}
	if s.TLS.Enabled() {
		o.TLS = &edge.TLSConfig{CertFile: s.TLS.Cert, KeyFile: s.TLS.Key, HandshakeTimeout: never(s.Timeouts.TLSHandshake)}
		if s.TLS.MinVersion == "1.3" {
			o.TLS.MinVersion = tls.VersionTLS13
		}
	}
	if s.AccessLog != "" {
		o.AccessLog = &edge.AccessLog{Path: s.AccessLog}
		o.AccessLog.Format = accessFormats[s.AccessLogFormat]
	}
	return o, nil
}

// accessFormats are the values of server.access_log_format.
var accessFormats = map[string]edge.LogFormat{"combined": edge.LogCombined, "extended": edge.LogExtended, "json": edge.LogJSON}

// forwardedPolicies are the values of server.forwarded.
var forwardedPolicies = map[string]edge.ForwardedPolicy{
	"auto": edge.ForwardedAuto, "x-forwarded": edge.ForwardedX, "forwarded": edge.ForwardedRFC, "off": edge.ForwardedOff,
}

func trusted(list []string) ([]netip.Prefix, bool, error) { return edge.ParseTrusted(list) }

// never turns the configuration's "0: none" into a time that does not come: the
// lanes read 0 as their default.
func never(d config.Duration) time.Duration {
	if d <= 0 {
		return 365 * 24 * time.Hour
	}
	return d.Std()
}

// restart restarts all workers: in production each when its successor serves; in
// development in its place, because what runs is out of date. only: these groups, and the
// executors that run their code.
func (h *host) restart(only ...string) {
	h = h.now()
	for _, g := range h.groups {
		of := g.config.Name
		if e := h.config.Executor(of); e != nil {
			of = e.Group
		}
		switch {
		case len(only) > 0 && !slices.Contains(only, of):
		case h.config.Dev:
			g.workers.Restart()
		default:
			g.workers.ReplaceSoon(supervise.ByOperator)
		}
	}
}

func (h *host) drainWorkers(cut context.Context) {
	h = h.now()
	var wait sync.WaitGroup
	for _, g := range h.groups {
		wait.Go(func() { g.workers.Drain(cut) })
	}
	wait.Wait()
}
