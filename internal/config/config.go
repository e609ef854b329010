// Package config is the one configuration structure: flags, the TOML file, the
// environment overrides, the JSON Schema, the reference and the defaults are all
// made from it and its tags.
// Before it: cmd/guado, or a program that uses the library. After it: the root
// package, which assembles a server from a [Config] that passed [Config.Resolve].
// Not here: opening, binding or starting anything.
package config

import "net/http"

// Tags of the fields below, read by the decoder, `config doc` and the schema:
//
//	toml      the key
//	default   its value when nothing sets it, as a file or the environment would spell it
//	enum      the only values allowed, separated by commas
//	min       smallest number, duration or size
//	doc       what it does, one or two sentences
//	path      "file" or "dir": relative to the folder of the configuration file

// Config is everything a Guado host is told.
type Config struct {
	Server Server  `toml:"server" doc:"The host: sockets, limits, logs, folders."`
	Admin  Admin   `toml:"admin" doc:"The interface by which the host is seen and steered."`
	Groups []Group `toml:"group" doc:"An interpreter, its environment and the workers that run in it. Apps join by group = \"name\"; an app that joins none is a group of its own."`
	Apps   []App   `toml:"app" doc:"A WSGI or ASGI callable. The keys of [[group]] on an app that joins no group are shorthand for its own group."`
	Mounts []Mount `toml:"mount" doc:"Binds a host and path prefix to an app, a folder, a redirect or an upstream. Without any mount a single app is mounted at \"/\"."`

	Programs []Program `toml:"program" doc:"A supervised command: a state daemon, a task worker, a migration, a job of cron. They start before the workers and end after them."`

	Metrics Metrics `toml:"metrics" doc:"What is counted, for Prometheus."`
	Health  Health  `toml:"health" doc:"How load balancers and orchestrators see the host."`
	Trace   Trace   `toml:"trace" doc:"Traces of exchanges, for OpenTelemetry."`

	Identity    Identity    `toml:"identity" doc:"Users and connections, which the server knows from phase 3 on."`
	Cookie      Cookie      `toml:"cookie" doc:"The cookie by which a connection is known."`
	Push        Push        `toml:"push" doc:"Sessions of pages, from phase 3 on: what is kept for clients that lost their connection, and what they may send."`
	Page        Page        `toml:"page" doc:"Pages: the tabs of browsers."`
	Idempotency Idempotency `toml:"idempotency" doc:"Answers that are kept for mounts with idempotency = true: a request that comes again with its Idempotency-Key is not done again."`

	State State `toml:"state" doc:"Stores of users, connections and pages: how large they may be."`

	Executors []Executor `toml:"executor" doc:"A pool of processes that run functions for the workers: guado.executor(\"name\").submit(function, argument)."`

	Events Events `toml:"events" doc:"Events that applications publish, from phase 3 on."`
	Global Global `toml:"global" doc:"The global store, from phase 4 on."`

	// File is where it was read from; empty when it was made from flags or by a program.
	File string `toml:"-"`
	// Dir is what relative paths are relative to: the folder of File, else the working directory.
	Dir string `toml:"-"`
	// Dev is set by `guado dev`: one worker to each group, no deadlines, no health kills, tracebacks
	// in the browser, and a lone worker has the terminal as its standard input, output and error.
	Dev bool `toml:"-"`

	origins map[string]Origin // by path: "app[0].threads"; nil when a program made it
	pages   string            // server.state_dir from phase 3 on, where nobody has said which one
}

// Server is the host's own part.
type Server struct {
	Listen          []string  `toml:"listen" default:"127.0.0.1:8000" doc:"Where to listen: \"HOST:PORT\", \"unix:PATH\" (\"unix:PATH?mode=0660\"), \"fd://N\" for an inherited socket, \"systemd\" for all that systemd passed, or \"systemd:NAME\" for one of them. Without a port, $PORT or 8000. The prefix \"http://\" keeps an address plain when [server.tls] is set."`
	TLS             TLS       `toml:"tls" doc:"Certificate of the TCP listeners. The files are read again when they change."`
	HTTP2           bool      `toml:"http2" default:"true" doc:"Offer HTTP/2 on TLS listeners."`
	H2C             bool      `toml:"h2c" default:"false" doc:"Speak HTTP/2 without TLS (prior knowledge) on plain listeners."`
	TrustedProxies  []string  `toml:"trusted_proxies" doc:"Addresses and networks (CIDR) whose Forwarded and X-Forwarded-* fields are believed and who may send the PROXY protocol; \"unix\" means whoever connects over a Unix socket."`
	Forwarded       string    `toml:"forwarded" default:"auto" enum:"auto,x-forwarded,forwarded,off" doc:"Which fields of a trusted proxy tell of its client: X-Forwarded-* and X-Real-IP, or Forwarded (RFC 7239); auto takes X-Forwarded-* when there are any, else Forwarded; off reads none and drops them all."`
	ProxyProtocol   bool      `toml:"proxy_protocol" default:"false" doc:"Require a PROXY protocol header (v1 or v2) on each connection; only trusted_proxies may connect then."`
	AllowHosts      []string  `toml:"allow_hosts" doc:"Host names that are answered (\"example.org\", \"*.example.org\"); others get 421. Empty: all."`
	AllowHeaders    []string  `toml:"allow_headers" doc:"Request fields with an underscore or a dot in their name that are let through; all others of that kind are dropped, because X_Foo and X-Foo are the same to WSGI."`
	ExposeRequestID bool      `toml:"expose_request_id" default:"false" doc:"Answers carry X-Request-ID."`
	HSTS            Duration  `toml:"hsts" default:"0" min:"0" doc:"max-age of Strict-Transport-Security on answers to https requests: \"8760h\" is a year. 0: none, the application's own if it sets one."`
	AccessLog       string    `toml:"access_log" path:"file" doc:"A file for the access log, \"-\" for standard output, empty for none."`
	AccessLogFormat string    `toml:"access_log_format" default:"combined" enum:"combined,extended,json" doc:"Form of an access log line: that of Apache and nginx; the same with request id, app, worker and times behind it; or one object of all that."`
	LogLevel        string    `toml:"log_level" default:"info" enum:"debug,info,warn,error" doc:"Least level that is logged."`
	LogFormat       string    `toml:"log_format" default:"console" enum:"console,json" doc:"Form of the log on standard error."`
	Compression     []string  `toml:"compression" enum:"gzip,zstd" doc:"Codings offered for answers, in order of preference; never used for event streams."`
	CompressionMin  Size      `toml:"compression_min" default:"1KiB" min:"0" doc:"Smaller answers are sent as they are."`
	RequestTimeout  Duration  `toml:"request_timeout" default:"0" min:"0" doc:"Time from the head of the request to the head of its answer, without the upload of a body that is spooled, waiting for a worker included; over it the client gets 504. 0: none."`
	GracefulTimeout Duration  `toml:"graceful_timeout" default:"25s" min:"0" doc:"How long a stop waits for requests under way, and for work behind their answers, before it cuts them."`
	ExitTimeout     Duration  `toml:"exit_timeout" default:"5s" min:"0" doc:"How long a worker may then take to end what was cut, for lifespan shutdown and for atexit before it is killed."`
	Transport       string    `toml:"transport" default:"auto" enum:"auto,shm,socket" doc:"How the host talks to workers: shared memory (Linux) or a Unix socket; auto takes shared memory where there is one."`
	Ring            Size      `toml:"ring" default:"1MiB" min:"64KiB" doc:"Size of each shared memory ring, a power of two."`
	Phase           int       `toml:"phase" default:"0" enum:"0,3,4,5,6" doc:"How far the server looks after the state of pages. 0: not at all. 3: it knows users, connections and pages, and pushes to them; applications go on as they are. 4: applications keep what they know of pages, connections and users in stores, which survive their workers. 5: pages are resident: HTTP and WebSocket meet the same object. 6: as 5, and the stores of the worker are compared with the host's copy while it runs."`
	StateDir        string    `toml:"state_dir" path:"dir" doc:"What must survive a restart: keys of cookies, and from a graceful stop to the next start connections, pages with their sessions, stores and kept answers, with state.durability host at any moment; docs/identity.md names the files. Empty: from phase 3 on $STATE_DIRECTORY, else .guado beside the configuration file; before, $XDG_STATE_HOME/guado."`
	CacheDir        string    `toml:"cache_dir" path:"dir" doc:"The unpacked worker package and compiled extensions. Empty: $GUADO_CACHE_DIR, else $XDG_CACHE_HOME/guado."`
	Limits          Limits    `toml:"limits" doc:"What a client may send."`
	Timeouts        Timeouts  `toml:"timeouts" doc:"How long a client may take. Idle times are of progress: each byte that moves starts them again."`
	WebSocket       WebSocket `toml:"websocket" doc:"WebSockets of ASGI applications. Origin is checked for the upgrades of every mount."`
	Spool           Spool     `toml:"spool" doc:"Request bodies of WSGI apps are collected before a thread is taken: first in memory, then on disk, then 503."`

	ServerPolicy
}

// TLS names the certificate of the listeners.
type TLS struct {
	Cert       string `toml:"cert" path:"file" doc:"PEM file with the certificate and its chain."`
	Key        string `toml:"key" path:"file" doc:"PEM file with the private key."`
	MinVersion string `toml:"min_version" default:"1.2" enum:"1.2,1.3" doc:"Oldest TLS version accepted."`
}

// Enabled reports whether a certificate was named.
func (t TLS) Enabled() bool { return t.Cert != "" || t.Key != "" }

// Limits bound what one client, and all together, may send.
type Limits struct {
	Head                  Size `toml:"head" default:"32KiB" min:"1KiB" doc:"Request line and header fields together."`
	Target                Size `toml:"target" default:"8KiB" min:"256" doc:"Request target (path and query)."`
	Fields                int  `toml:"fields" default:"100" min:"1" doc:"Number of header fields."`
	Trailers              Size `toml:"trailers" default:"8KiB" min:"0" doc:"Trailer section of a chunked body."`
	Body                  Size `toml:"body" default:"1GiB" min:"0" doc:"Request body; more is 413. 0: no limit."`
	Connections           int  `toml:"connections" default:"20000" min:"0" doc:"Connections open at once; more wait in the kernel's queue. 0: no limit."`
	ConnectionsPerAddress int  `toml:"connections_per_address" default:"0" min:"0" doc:"Connections open at once from one address (trusted proxies do not count). 0: no limit."`
	RequestsPerConnection int  `toml:"requests_per_connection" default:"0" min:"0" doc:"Requests on one connection before it is closed. 0: no limit."`
	HTTP2Streams          int  `toml:"http2_streams" default:"100" min:"1" doc:"Concurrent streams of one HTTP/2 connection."`
	HTTP2Resets           int  `toml:"http2_resets" default:"200" min:"1" doc:"Cancelled streams per minute after which an HTTP/2 connection is closed."`
}

// Timeouts bound how long a client may take.
type Timeouts struct {
	Head          Duration `toml:"head" default:"10s" min:"0" doc:"From the first byte of a request head to its end."`
	KeepAlive     Duration `toml:"keep_alive" default:"75s" min:"0" doc:"Idle between two requests of a connection."`
	ReadIdle      Duration `toml:"read_idle" default:"60s" min:"0" doc:"Request body without progress."`
	WriteIdle     Duration `toml:"write_idle" default:"60s" min:"0" doc:"Answer without progress."`
	TLSHandshake  Duration `toml:"tls_handshake" default:"10s" min:"0" doc:"TLS handshake."`
	ProxyProtocol Duration `toml:"proxy_protocol" default:"1s" min:"0" doc:"PROXY protocol header."`
}

// Spool bounds the request bodies that are collected before a worker is asked.
type Spool struct {
	Each   Size   `toml:"each" default:"1MiB" min:"0" doc:"Longest body that is held in memory; a longer one goes to disk whole."`
	Memory Size   `toml:"memory" default:"64MiB" min:"0" doc:"Memory for all bodies together."`
	Disk   Size   `toml:"disk" default:"10GiB" min:"0" doc:"Disk for all bodies together; over it 503."`
	Dir    string `toml:"dir" path:"dir" doc:"Folder of the spool files (they have no name there). Empty: $TMPDIR."`
}

// Process is what a group's workers are; on an app that joins no group it is
// shorthand for its own group.
type Process struct {
	Python      string            `toml:"python" doc:"The interpreter: a path, a command, or the folder of a virtual environment. Empty: .venv in dir, .venv beside the configuration file, $VIRTUAL_ENV, then python3."`
	Dir         string            `toml:"dir" path:"dir" doc:"Working directory and sys.path[0] of the workers. Empty: the folder of the configuration file."`
	Env         map[string]string `toml:"env" doc:"Environment variables for the workers, over those of the host and env_file."`
	EnvFile     string            `toml:"env_file" path:"file" doc:"A file of NAME=value lines for the workers' environment."`
	SecretEnv   map[string]string `toml:"secret_env" doc:"Environment variables whose values are read from the files named here, one trailing newline taken off."`
	Workers     int               `toml:"workers" default:"1" min:"1" doc:"Worker processes; one queue feeds them all."`
	Threads     int               `toml:"threads" default:"8" min:"1" doc:"Threads of a worker that run WSGI applications."`
	Concurrency int               `toml:"concurrency" default:"1000" min:"1" doc:"Exchanges under way in one worker for ASGI applications."`
	Queue       int               `toml:"queue" default:"2048" min:"0" doc:"Requests that may wait for a worker; more get 503 with Retry-After."`
	QueueWait   Duration          `toml:"queue_wait" default:"30s" min:"0" doc:"How long a request may wait for a worker, or for the turn of its page, before 503. 0: no limit."`
	BootTimeout Duration          `toml:"boot_timeout" default:"60s" min:"1ms" doc:"Time for a worker to import its applications and run lifespan startup."`
	State       bool              `toml:"state" default:"false" doc:"From phase 3 on: this group has users, connections and pages. Exactly one has, with one worker; where there is one group it need not be said."`
	After       []string          `toml:"after" doc:"Programs that must be ready (once programs: have ended well) before the workers start, as a migration or a daemon."`
	DrainMax    Duration          `toml:"drain_max" default:"30s" min:"0" doc:"How long a worker that is recycled may take to finish the requests that it has; it gets no new ones."`
	Care
	PingTimeout Duration `toml:"ping_timeout" default:"30s" min:"0" doc:"A worker whose watch thread has not answered for this long is killed and started again. 0: never."`
}

// Group is an interpreter, an environment and the apps that run in it.
type Group struct {
	Name string `toml:"name" doc:"Unique name."`
	Process
}

// App is a WSGI or ASGI callable.
type App struct {
	Name           string    `toml:"name" doc:"Unique name; mounts refer to it."`
	Kind           string    `toml:"kind" default:"auto" enum:"auto,wsgi,asgi" doc:"Interface of the callable; auto looks at it."`
	Target         string    `toml:"target" doc:"The callable: \"module:attribute\" (\"module\" alone means the attribute application or app)."`
	Factory        bool      `toml:"factory" default:"false" doc:"The target is a function that makes the application; it is called without arguments."`
	Group          string    `toml:"group" doc:"Group to join. Empty: a group of its own with the app's name."`
	Lifespan       string    `toml:"lifespan" default:"auto" enum:"auto,on,off" doc:"ASGI lifespan: auto goes on without it when the application does not know it, on insists."`
	RequestTimeout *Duration `toml:"request_timeout" min:"0" doc:"As server.request_timeout, for this app. Not set: the server's. 0: none."`
	Spool          bool      `toml:"spool" default:"true" doc:"Collect request bodies before a thread is taken (WSGI only)."`
	Retry          string    `toml:"retry" default:"no" enum:"no,safe" doc:"Requests lost with their worker after they started: no answers 502, safe sends GET, HEAD, OPTIONS and TRACE once more. Requests that had not started are always sent once more."`
	Register       string    `toml:"register" doc:"What the app keeps its users, connections and pages in below phase 4: \"module:object\" with items() and replace(items). The step to phase 4 takes all of it over, the step back gives all of it back (docs/moving.md)."`
	Process
}

// Mount binds a host and path prefix to what answers there: exactly one of App,
// Static, Redirect and Upstream is set.
type Mount struct {
	Name string `toml:"name" doc:"Name in logs. Empty: its app, else its path."`
	Path string `toml:"path" default:"/" doc:"Path prefix, matched on whole segments; the longest wins."`
	Host string `toml:"host" doc:"Host name (\"example.org\", \"*.example.org\"). Empty: every host; mounts that name the host are tried first."`

	App      string `toml:"app" doc:"Name of the app that answers."`
	Static   string `toml:"static" path:"dir" doc:"Folder whose files are served."`
	Redirect string `toml:"redirect" doc:"Where to send the client: a path or an absolute URL."`
	Upstream string `toml:"upstream" doc:"Another server: \"http://HOST:PORT\", \"https://HOST:PORT\" or \"unix:PATH\". WebSocket upgrades pass through."`

	Prefix   string `toml:"prefix" enum:",strip,keep" doc:"strip: path is taken off and told as SCRIPT_NAME or root_path; keep: what answers sees the whole path and an empty one. Empty: strip for apps, folders and redirects, keep for upstreams."`
	RootPath string `toml:"root_path" doc:"Prefix that a proxy in front has already taken off (apps only)."`
	WSX      bool   `toml:"wsx" default:"false" doc:"Speak WSX on WebSockets at /_wsx and /websocket below path: the messages of GenroPy's newest clients become requests (apps only; protocol/wsx.md)."`

	Index         []string `toml:"index" default:"index.html" doc:"Static: files tried for a folder."`
	TryFiles      []string `toml:"try_files" doc:"Static: what is tried in order for a path that is no file, with {path} in place of it: [\"{path}.html\", \"/404.html\"]."`
	Fallback      string   `toml:"fallback" doc:"Static: file that answers with status 200 for a path without extension that is no file (single-page applications)."`
	Precompressed bool     `toml:"precompressed" default:"false" doc:"Static: serve file.zst, file.br or file.gz beside a file to clients that accept it."`
	CacheControl  string   `toml:"cache_control" doc:"Static: value of Cache-Control."`
	Hidden        bool     `toml:"hidden" default:"false" doc:"Static: serve names that start with a dot (.well-known always is)."`

	Code     int  `toml:"code" default:"308" enum:"301,302,303,307,308" doc:"Redirect: status."`
	KeepPath bool `toml:"keep_path" default:"false" doc:"Redirect: append the rest of the path and the query."`

	KeepHost       bool     `toml:"keep_host" default:"true" doc:"Upstream: send the client's Host on."`
	ConnectTimeout Duration `toml:"connect_timeout" default:"5s" min:"1ms" doc:"Upstream: time to connect."`
	AnswerTimeout  Duration `toml:"answer_timeout" default:"60s" min:"0" doc:"Upstream: time to the head of the answer. 0: none."`

	MountPolicy

	// Handler answers instead of the four above: a Go handler of a program that uses
	// the library. No file can name one.
	Handler http.Handler `toml:"-"`
}

// Kinds of a mount, as [Mount.Kind] tells them.
const (
	MountApp      = "app"
	MountStatic   = "static"
	MountRedirect = "redirect"
	MountUpstream = "upstream"
	MountHandler  = "handler"
)

// Kind tells what answers at the mount; empty when nothing is set.
func (m *Mount) Kind() string {
	switch {
	case m.App != "":
		return MountApp
	case m.Static != "":
		return MountStatic
	case m.Redirect != "":
		return MountRedirect
	case m.Upstream != "":
		return MountUpstream
	case m.Handler != nil:
		return MountHandler
	}
	return ""
}

// Strip reports whether the mount's path is taken off before what answers sees it.
func (m *Mount) Strip() bool {
	if m.Prefix == "" {
		return m.Kind() != MountUpstream
	}
	return m.Prefix == "strip"
}

// Group gives the group with this name; nil when there is none.
func (c *Config) Group(name string) *Group {
	for i := range c.Groups {
		if c.Groups[i].Name == name {
			return &c.Groups[i]
		}
	}
	return nil
}

// App gives the app with this name; nil when there is none.
func (c *Config) App(name string) *App {
	for i := range c.Apps {
		if c.Apps[i].Name == name {
			return &c.Apps[i]
		}
	}
	return nil
}

// Deadline is the app's request timeout: its own, else the server's; 0 means none.
func (c *Config) Deadline(a *App) Duration {
	if c.Dev {
		return 0
	}
	if a.RequestTimeout != nil {
		return *a.RequestTimeout
	}
	return c.Server.RequestTimeout
}
