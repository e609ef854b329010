package guado

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/edge/compress"
	"github.com/guado-server/guado/internal/edge/http2"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/executor"
	"github.com/guado-server/guado/internal/gate"
	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/redirect"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/internal/static"
	"github.com/guado-server/guado/internal/supervise"
	"github.com/guado-server/guado/internal/upstream"
	"github.com/guado-server/guado/internal/version"
	"github.com/guado-server/guado/python"
)

// host is a running server: the one place where the steps of the road meet.
type host struct {
	config    *Config
	log       *slog.Logger
	instance  string
	started   time.Time
	spawner   *child.Spawner
	spool     *pool.Spool
	groups    []*group
	programs  *program.Set
	held      sync.WaitGroup     // groups that wait for programs
	unhold    context.CancelFunc // ends that wait
	executors *executor.Hub
	tasks     map[string]exchange.Handler // what runs the tasks of an executor
	apps      map[string]exchange.Handler
	closers   []io.Closer
	gate      *gate.Gate
	edge      *edge.Server
	urls      []string // of the listeners
	watching  watching
	journal   *admin.Journal
	admin     atomic.Pointer[admin.Server] // nil: none
	state     atomic.Value                 // State
	end       func(cut bool)               // makes Run return
}

// group is the workers of one interpreter and the queue in front of them.
type group struct {
	config      *config.Group
	interpreter *runtime.Interpreter
	pool        *pool.Pool
	workers     *supervise.Group
}

// newHost builds everything and opens the sockets; nothing is started yet.
func newHost(ctx context.Context, s *Server) (h *host, err error) {
	c := s.config
	h = &host{config: c, instance: rand.Text(), started: time.Now(), apps: map[string]exchange.Handler{}, journal: admin.NewJournal()}
	h.log = slog.New(h.journal.Handler(s.Log.Handler()))
	h.state.Store(Starting)
	h.spool = pool.NewSpool(pool.SpoolOptions{
		Each: c.Server.Spool.Each.Bytes(), Memory: c.Server.Spool.Memory.Bytes(),
		Disk: c.Server.Spool.Disk.Bytes(), Dir: c.Server.Spool.Dir,
	})
	h.spawner = child.NewSpawner(child.Options{Instance: h.instance, Log: s.Log})
	defer func(h *host) { // as it is now: an error returns nil
		if err != nil {
			h.spawner.Close()
			for _, c := range h.closers {
				_ = c.Close() // the first error is the one to tell
			}
		}
	}(h)
	stdout := supervise.NewLines(h.journal.Tee(s.Stdout, "stdout", h.printer))
	stderr := supervise.NewLines(h.journal.Tee(s.Stderr, "stderr", h.printer))
	if len(c.Groups) > 0 {
		if err := h.addGroups(ctx, s, stdout, stderr); err != nil {
			return nil, err
		}
	}
	h.addExecutors()
	if err := h.addPrograms(s, stdout, stderr); err != nil {
		return nil, err
	}
	if err := h.watch(ctx); err != nil {
		return nil, err
	}
	table, err := h.routes()
	if err != nil {
		return nil, err
	}
	road, _, err := h.front(table)
	if err != nil {
		return nil, err
	}
	listeners, err := edge.ListenAll(c.Server.Listen)
	if err != nil {
		return nil, err
	}
	for _, l := range listeners {
		h.urls = append(h.urls, listenURL(l, h.config.Server.TLS.Enabled()))
	}
	options, err := h.edgeOptions(h.probes(road))
	if err == nil {
		options.Listeners = listeners
		h.edge, err = edge.New(options)
	}
	if err != nil {
		for _, l := range listeners {
			_ = l.Close() // as above
		}
		return nil, err
	}
	return h, nil
}

func (h *host) addGroups(ctx context.Context, s *Server, stdout, stderr *supervise.Lines) error {
	cache, err := runtime.Open(runtime.Options{
		Dir: h.config.Server.CacheDir, Environ: s.Environ, Files: python.Files, Log: h.log,
	})
	if err != nil {
		return err
	}
	slot := 0
	for _, g := range h.allGroups() {
		var slots []string
		for range g.Workers {
			slot++ // numbered once per host: a slot's name is good in every group
			slots = append(slots, fmt.Sprintf("p%02d", slot))
		}
		in, err := cache.Find(ctx, g.Python, g.Dir, h.config.Dir)
		if err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
		if err := h.addGroup(g, in, cache, slots, s, stdout, stderr); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) addGroup(g *config.Group, in *runtime.Interpreter, cache *runtime.Cache, slots []string, s *Server, stdout, stderr *supervise.Lines) error {
	var workers *supervise.Group
	command, err := workerCommand(g, in, cache, s.Environ)
	if err != nil {
		return err
	}
	p := pool.New(pool.Options{
		Name: g.Name, Queue: g.Queue, QueueWait: g.QueueWait.Std(), Threads: g.Threads,
		Concurrency: g.Concurrency, Workers: g.Workers, Spool: h.spool, Log: h.log,
		Dev:         h.config.Dev,
		Interrupted: func(l *link.Link) { workers.Recycle(l, supervise.ByInterrupt) },
	})
	hello := link.Hello{
		Version: version.Version, Instance: h.instance, Dir: g.Dir, Threads: g.Threads,
		Concurrency: g.Concurrency, Multiprocess: g.Workers > 1, Dev: h.config.Dev,
	}
	for i := range h.config.Apps {
		a := &h.config.Apps[i]
		if a.Group != g.Name {
			continue
		}
		hello.Apps = append(hello.Apps, link.App{Name: a.Name, Target: a.Target, Kind: a.Kind, Factory: a.Factory, Lifespan: a.Lifespan, File: h.config.Described(i)})
		h.apps[a.Name] = p.App(pool.AppOptions{
			Name: a.Name, Timeout: h.config.Deadline(a).Std(), Spool: a.Spool, RetrySafe: a.Retry == "safe",
		})
	}
	h.callable(g, p, &hello)
	transport := h.config.Server.Transport
	if transport == "auto" {
		transport = ""
	}
	workers = supervise.New(supervise.Options{
		Name: g.Name, Slots: slots, Hello: hello, Crew: p, RequestID: p.RequestID, Calls: h.callee,
		Command: command,
		Link:    link.Options{Transport: transport, Ring: int(h.config.Server.Ring.Bytes()), Slots: linkSlots(g), Log: h.log, KeepErrors: h.config.Dev},
		Spawner: h.spawner, Stdout: stdout, Stderr: stderr, Log: h.log,
		BootTimeout: g.BootTimeout.Std(), PingTimeout: g.PingTimeout.Std(),
		GracefulTimeout: h.config.Server.GracefulTimeout.Std(), ExitTimeout: h.config.Server.ExitTimeout.Std(),
		DrainMax: g.DrainMax.Std(), HangTimeout: g.HangTimeout.Std(), SlowRequest: g.SlowRequest.Std(), FreezeAfter: g.FreezeAfter, OutputLimit: g.OutputLimit, Limits: lifetime(g),
		Terminal: h.config.Dev && len(h.config.Groups) == 1 && !h.executes(g),
	})
	h.groups = append(h.groups, &group{config: g, interpreter: in, pool: p, workers: workers})
	return nil
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
func (h *host) routes() (*route.Table, error) {
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
			AddSlash: m.Kind() == config.MountStatic, Handler: handler, Meter: h.watching.meter(m.Name),
		})
	}
	return route.New(mounts)
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
		Handler: handler, Log: h.log, Observe: h.watching.observer(),
	}
	if h.watching.tracer != nil {
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
// development in its place, because what runs is out of date.
func (h *host) restart() {
	for _, g := range h.groups {
		if h.config.Dev {
			g.workers.Restart()
		} else {
			g.workers.ReplaceSoon(supervise.ByOperator)
		}
	}
}

func (h *host) drainWorkers(cut context.Context) {
	var wait sync.WaitGroup
	for _, g := range h.groups {
		wait.Go(func() { g.workers.Drain(cut) })
	}
	wait.Wait()
}
