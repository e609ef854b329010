package adopt

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// addGunicorn makes an app of a gunicorn. What belongs to the server and not to the app
// is taken over as well, as there was one gunicorn to a server.
func (d *draft) addGunicorn(g *gunicorn) {
	t := newTable("[[app]]", "")
	target := g.target
	if target == "" {
		target = "app:application"
		d.miss(t, g.from, "the application", "gunicorn was not told it here; correct the target")
	}
	name := g.name
	if name == "gunicorn" {
		name = "" // the module says more
	}
	call, arguments, factory := strings.Cut(target, "(")
	t.set("name", d.freeName(name, call), g.from)
	t.set("target", call, "")
	if factory {
		t.set("factory", true, "")
		if arguments != ")" {
			d.miss(t, g.from, target, "a factory is called without arguments")
		}
	}
	d.apps = append(d.apps, t)
	d.gunicornKind(t, g)
	d.gunicornPlace(t, g)
	d.gunicornAccount(t, g)
	d.gunicornTimes(t, g)
	d.gunicornServer(g)
	d.gunicornRest(t, g)
	for _, bind := range g.binds() {
		d.serves[address(bind)] = appName(t)
		if len(d.listen) == 0 || !d.fronted {
			d.listen = append(d.listen, listenOf(bind))
		}
	}
}

// freeName names an app by its program, else by its module; never twice.
func (d *draft) freeName(given, target string) string {
	name := given
	if name == "" {
		name, _, _ = strings.Cut(target, ":")
		name, _, _ = strings.Cut(name, ".")
	}
	name = nameOf(name)
	for n, base := 2, name; slices.ContainsFunc(d.apps, func(t *table) bool { return appName(t) == name }); n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	return name
}

func (g *gunicorn) binds() []string {
	if len(g.settings["bind"]) > 0 {
		return g.settings["bind"]
	}
	return []string{"127.0.0.1:8000"} // its default
}

// gunicornKind takes over workers and threads, and what kind of worker they are.
func (d *draft) gunicornKind(t *table, g *gunicorn) {
	if n := g.value("workers"); n != "" && n != "1" {
		t.set("workers", number(n), "workers")
	}
	class, threads := g.value("worker_class"), g.value("threads")
	if threads == "" {
		threads = "1"
	}
	if class == "" || class == "sync" && threads != "1" {
		class = map[bool]string{true: "gthread", false: "sync"}[threads != "1"]
	}
	short := class[strings.LastIndexByte(class, '.')+1:]
	switch {
	case short == "gthread":
		t.set("threads", number(threads), "threads, worker_class")
	case short == "sync":
		t.about = "gunicorn's sync workers have one thread each. Raise threads, and lower workers, if the application allows it."
		t.set("threads", number("1"), "worker_class = sync")
	case strings.Contains(short, "Uvicorn") || short == "asgi":
		t.set("kind", "asgi", "worker_class = "+class)
	case strings.HasPrefix(short, "gevent") || short == "eventlet":
		t.set("threads", number("64"), "worker_class = "+class)
		d.miss(t, g.from, "worker_class = "+class, "workers have threads of the system here, and refuse monkey patching; 64 threads take its place")
	default:
		d.miss(t, g.from, "worker_class = "+class, "there is no such kind of worker here")
	}
}

// gunicornPlace takes over folder, interpreter and environment.
func (d *draft) gunicornPlace(t *table, g *gunicorn) {
	dir := g.value("chdir")
	if dir == "" || g.whole && dir == g.dir {
		dir = g.dir
	}
	switch place := d.absolute(dir); {
	case dir != "" && place != d.dir:
		t.set("dir", place, "chdir")
	case g.value("chdir") != "" && !g.whole:
		d.needsNot(t, "gunicorn", "chdir")
	}
	if g.venv != "" {
		t.set("python", g.venv, "")
	}
	env := map[string]string{}
	for _, pair := range g.settings["raw_env"] {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		} else {
			d.miss(t, g.from, "raw_env = "+pair, "it is no NAME=value")
		}
	}
	if path := g.value("pythonpath"); path != "" {
		env["PYTHONPATH"] = strings.ReplaceAll(path, ",", ":")
	}
	if len(env) > 0 {
		d.private = true
		t.set("env", env, map[bool]string{true: "raw_env", false: "pythonpath"}[len(g.settings["raw_env"]) > 0])
	}
}

// gunicornAccount takes over whom the workers run as. --print-config tells that of
// whoever asks, unless somebody set another one.
func (d *draft) gunicornAccount(t *table, g *gunicorn) {
	user, group := g.value("user"), g.value("group")
	if g.whole && user == strconv.Itoa(os.Geteuid()) {
		return
	}
	switch {
	case user != "" && group != "":
		t.set("user", user+":"+group, "user and group")
	case user != "":
		t.set("user", user, "user")
	case group != "":
		d.miss(t, g.from, "group = "+group, "name an account with it: user = \"NAME:%s\"", group)
	}
}

// gunicornTimes takes over timeouts.
func (d *draft) gunicornTimes(t *table, g *gunicorn) {
	timeout := g.value("timeout")
	if timeout == "" {
		timeout = "30" // its default
	}
	// Only a sync worker dies of a slow request; others are asked whether they live.
	sync := t.get("threads") == "1" && t.get("kind") == ""
	switch n, err := strconv.Atoi(timeout); {
	case err == nil && n > 0 && sync:
		t.set("request_timeout", time.Duration(n)*time.Second, "timeout = "+timeout)
	case g.said("timeout", "30"):
		d.miss(t, g.from, "timeout = "+timeout, "it was never the time of a request of such workers; hang_timeout watches over them, request_timeout would end requests")
	}
	if n, err := strconv.Atoi(g.value("graceful_timeout")); err == nil {
		t := d.at("")
		if known, err := strconv.Atoi(t.get("graceful_timeout")); err == nil && known > n {
			d.miss(t, g.from, fmt.Sprintf("graceful_timeout = %d", n), "one value counts for all apps")
		} else {
			t.set("graceful_timeout", n, g.from+" graceful_timeout")
		}
	}
	for _, setting := range []string{"max_requests", "max_requests_jitter"} {
		if n := g.value(setting); n != "" && n != "0" {
			t.set(setting, number(n), setting)
		}
	}
}

// gunicornServer takes over what one gunicorn said for all its clients.
func (d *draft) gunicornServer(g *gunicorn) {
	if cert, key := g.value("certfile"), g.value("keyfile"); cert != "" && key != "" {
		d.at("tls").set("cert", d.absolute(cert), g.from+" certfile")
		d.at("tls").set("key", d.absolute(key), g.from+" keyfile")
		d.tls = true
	}
	if n := g.value("limit_request_line"); g.said("limit_request_line", "4094") && n != "0" {
		d.at("limits").set("target", number(n), g.from+" limit_request_line")
	}
	if n := g.value("limit_request_fields"); g.said("limit_request_fields", "100") {
		d.at("limits").set("fields", number(n), g.from+" limit_request_fields")
	}
	if level := g.value("loglevel"); g.said("loglevel", "info") {
		word := strings.NewReplacer("warning", "warn", "critical", "error").Replace(strings.ToLower(level))
		if slices.Contains([]string{"debug", "info", "warn", "error"}, word) {
			d.at("").set("log_level", word, g.from+" loglevel")
		} else {
			d.miss(d.at(""), g.from, "loglevel = "+level, "log_level is debug, info, warn or error")
		}
	}
	d.gunicorns = append(d.gunicorns, g)
	switch n := g.value("keepalive"); {
	case !g.said("keepalive", "2"):
	case d.fronted:
		d.needsNot(nil, "gunicorn", "keepalive") // it was between the proxy and the workers
	default:
		d.at("timeouts").set("keep_alive", number(n), g.from+" keepalive")
	}
	if !d.fronted {
		d.trustProxies(g)
	} else if !g.whole && len(g.settings["forwarded_allow_ips"]) > 0 {
		d.needsNot(nil, "gunicorn", "forwarded_allow_ips") // the proxy was nginx
	}
	if g.value("proxy_protocol") == "True" || g.value("proxy_protocol") == "auto" {
		d.miss(d.at(""), g.from, "proxy_protocol", "set proxy_protocol = true and name the proxies in trusted_proxies, if a proxy stays in front")
	}
}

// said reports whether somebody has set this: whole settings have the defaults, too.
func (g *gunicorn) said(name, standard string) bool {
	value := g.value(name)
	return value != "" && (!g.whole || value != standard)
}

// gunicornLog takes over the access log, when nginx has none: there is one for all.
func (d *draft) gunicornLog() {
	t := d.at("")
	for _, g := range d.gunicorns {
		file := g.value("accesslog")
		switch {
		case file == "":
			continue
		case file != "-":
			file = d.absolute(file)
		}
		if known := t.get("access_log"); known != "" && known != quote(file) {
			d.miss(t, g.from, "accesslog = "+file, "one access log has all requests")
			continue
		}
		t.set("access_log", file, g.from+" accesslog")
	}
}

// trustProxies believes whom gunicorn believed, where a proxy stays in front.
func (d *draft) trustProxies(g *gunicorn) {
	text := strings.Join(g.settings["forwarded_allow_ips"], ",")
	if text == "" {
		text = "127.0.0.1,::1" // its default
	}
	var trusted []string
	for _, word := range strings.Split(text, ",") {
		switch word = strings.TrimSpace(word); word {
		case "":
		case "*":
			d.miss(d.at(""), g.from, "forwarded_allow_ips = *", "name the proxies in trusted_proxies: everybody could choose his address otherwise")
		default:
			trusted = append(trusted, word)
		}
	}
	if slices.ContainsFunc(g.binds(), func(b string) bool { return strings.HasPrefix(b, "unix:") }) {
		trusted = append(trusted, "unix")
	}
	if len(trusted) > 0 {
		d.at("").set("trusted_proxies", trusted, "forwarded_allow_ips")
	}
}

// carried are settings that the functions above have read, and told of.
var carried = []string{
	"bind", "workers", "worker_class", "threads", "chdir", "pythonpath", "raw_env", "timeout", "graceful_timeout", "max_requests", "max_requests_jitter",
	"certfile", "keyfile", "limit_request_line", "limit_request_fields", "loglevel", "accesslog", "proxy_protocol", "wsgi_app", "user", "group", "keepalive",
	"forwarded_allow_ips", "default_proc_name",
}

// unneeded are settings that nothing is lost with, or whose part is played otherwise.
var unneeded = []string{
	"check_config", "print_config", "config", "proc_name", "pidfile", "daemon", "backlog", "worker_connections", "worker_tmp_dir", "proxy_allow_ips",
	"capture_output", "sendfile", "reuse_port", "control_socket_disable", "do_handshake_on_connect", "suppress_ragged_eofs", "enable_stdio_inheritance",
	"secure_scheme_headers",
}

// reasons say of settings that are not carried over why, and what to do.
var reasons = map[string]string{
	"umask": "set umask on the [[app]], in octal", "statsd_host": "figures are scraped by Prometheus instead: [metrics]",
	"logconfig": "the host logs by itself: log_format and log_level", "logconfig_dict": "the host logs by itself: log_format and log_level",
	"paste": "name the callable itself as the target", "logger_class": "the host logs by itself",
	"access_log_format": "access_log_format is combined, extended or json", "ssl_version": "[server.tls] has min_version", "ciphers": "Go's choice of ciphers is used",
	"ca_certs": "client certificates are not asked for", "cert_reqs": "client certificates are not asked for",
	"preload_app": "each worker imports the application by itself", "reload": "guado dev reloads; a server for clients does not",
	"errorlog": "the log goes to standard error: log_level, log_format", "limit_request_field_size": "limits.head is for all fields together",
}

// alwaysPrinted are those of reasons that have a value though nobody set one.
var alwaysPrinted = []string{"umask", "access_log_format", "ssl_version", "ciphers", "cert_reqs", "logger_class", "limit_request_field_size"}

// gunicornRest names the hooks and settings that have no counterpart.
func (d *draft) gunicornRest(t *table, g *gunicorn) {
	for _, name := range sortedKeys(g.settings) {
		value := strings.Join(g.settings[name], ", ")
		hook := strings.HasPrefix(value, "<") && strings.HasSuffix(value, "()>")
		off := value == "False" || value == "0" || value == ""
		switch why := reasons[name]; {
		case slices.Contains(carried, name):
		case hook && !strings.Contains(value, "."): // of gunicorn itself: <PostFork.post_fork()>
			d.miss(t, g.from, name, "there are no hooks; the application's module is imported once in each worker, and atexit runs at its end")
		case hook:
		case g.whole && (off || slices.Contains(alwaysPrinted, name) || why == "" && value != "True"):
			// --print-config tells what is in effect, and not whether somebody set it.
		case slices.Contains(unneeded, name), off && !slices.Contains(g.unknown, name) && (why != "" || knownToGunicorn(name)), name == "errorlog" && value == "-":
			if !g.whole {
				d.needsNot(t, "gunicorn", name)
			}
		case why != "":
			d.miss(t, g.from, name+" = "+value, "%s", why)
		case knownToGunicorn(name), slices.Contains(g.unknown, name):
			d.miss(t, g.from, name+" = "+value, "there is nothing like it")
		}
	}
}

// knownToGunicorn tells settings from other names of a configuration file.
func knownToGunicorn(name string) bool {
	return slices.Contains([]string{
		"spew", "tmp_upload_dir", "initgroups", "strip_header_spaces", "header_map", "permit_obsolete_folding", "casefold_http_method", "forwarder_headers",
		"limit_request_field_size", "syslog", "syslog_addr", "syslog_prefix", "syslog_facility", "dogstatsd_tags", "statsd_prefix", "raw_paste_global_conf",
		"disable_redirect_access_to_syslog", "reload_engine", "reload_extra_files", "ssl_context", "logconfig_json", "root_path", "control_socket_mode",
	}, name)
}

// number is written without quotes when it is one.
func number(text string) any {
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
		return n
	}
	return text
}
