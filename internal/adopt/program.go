package adopt

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-shellwords"

	"github.com/guado-server/guado/internal/config"
)

// addPrograms makes apps of the programs that serve Python applications, and programs
// of the rest.
func (d *draft) addPrograms(ctx context.Context, o *Options, programs []*supervised) {
	for _, p := range programs {
		dir := p.get("directory")
		if dir == "" {
			dir = d.dir
		}
		switch server, args := pythonServer(p.words); {
		case server == "gunicorn" && o.Gunicorn != "" && len(d.apps) == 1:
			d.supervised[appName(d.apps[0])] = p
			d.apps[0].about = strings.TrimSpace(d.apps[0].about + " It ran as [program:" + p.name + "] of supervisord.")
			d.appEnvironment(d.apps[0], p)
			d.appRest(d.apps[0], p)
		case server == "gunicorn":
			g, err := readGunicornCommand(ctx, o, args, dir, p.place())
			if err != nil {
				d.miss(nil, p.from, strings.Join(p.words, " "), "%s", err)
			}
			g.name = p.name
			d.addGunicorn(g)
			d.supervised[appName(d.apps[len(d.apps)-1])] = p
			d.appEnvironment(d.apps[len(d.apps)-1], p)
			d.appRest(d.apps[len(d.apps)-1], p)
		case server != "":
			d.addASGI(p, server, args, dir)
		default:
			d.addProgram(p)
		}
	}
}

// pythonServer finds a Python server in a command: "/venv/bin/gunicorn …", "python -m
// uvicorn …". Its arguments begin with a path whose folder tells the environment.
func pythonServer(words []string) (name string, args []string) {
	known := []string{"gunicorn", "uvicorn", "daphne", "hypercorn"}
	if base := filepath.Base(words[0]); slices.Contains(known, base) {
		return base, words
	}
	if len(words) > 2 && strings.HasPrefix(filepath.Base(words[0]), "python") && words[1] == "-m" && slices.Contains(known, words[2]) {
		return words[2], append([]string{words[0]}, words[3:]...)
	}
	return "", nil
}

// asgiKeys are options of ASGI servers that are keys of an app.
var asgiKeys = map[string]string{
	"--workers": "workers", "-w": "workers", "--app-dir": "dir", "--env-file": "env_file", "--lifespan": "lifespan", "--limit-max-requests": "max_requests",
	"--limit-concurrency": "concurrency",
}

// asgiNeedless are those that nothing is lost with; the switches among them have no value.
var (
	asgiNeedless = []string{
		"--ws", "--loop", "--http", "--log-level", "--forwarded-allow-ips", "--timeout-keep-alive", "--keep-alive", "--backlog", "--interface",
		"--proxy-headers", "--no-access-log", "--no-use-colors", "--use-colors", "--no-server-header",
	}
	asgiSwitches = []string{"--proxy-headers", "--no-access-log", "--no-use-colors", "--use-colors", "--no-server-header"}
)

// addASGI makes an app of uvicorn, daphne or hypercorn.
func (d *draft) addASGI(p *supervised, server string, args []string, dir string) {
	from := p.place()
	t := newTable("[[app]]", "")
	host, port, target, factory := "127.0.0.1", "8000", "", false
	bind := ""
	valued := map[string]*string{
		"--host": &host, "--port": &port, "-p": &port, "-b": &bind, "--bind": &bind, "-u": &bind, "--uds": &bind, "--unix-socket": &bind,
	}
	for i := 1; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		next := func() string {
			if !joined && i+1 < len(args) {
				i++
				value = args[i]
			}
			return value
		}
		switch key := asgiKeys[name]; {
		case valued[name] != nil:
			*valued[name] = next()
		case key == "dir" || key == "env_file":
			t.set(key, joinDir(dir, next()), name)
		case key != "":
			t.set(key, number(next()), name)
		case name == "--factory":
			factory = true
		case name == "--timeout-graceful-shutdown" || name == "--graceful-timeout":
			d.at("").set("graceful_timeout", number(next()), from+" "+name)
		case slices.Contains(asgiNeedless, name):
			if !slices.Contains(asgiSwitches, name) {
				next()
			}
			d.needsNot(t, server, name)
		case strings.HasPrefix(name, "-"):
			if !joined && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && !strings.Contains(args[i+1], ":") {
				i++
				value = args[i]
			}
			d.miss(t, from, strings.TrimSpace(server+" "+name+" "+value), "look for its counterpart in docs/asgi.md, if it matters")
		default:
			target = args[i]
		}
	}
	if bind == "" {
		bind = host + ":" + port
	} else if strings.HasPrefix(bind, "/") {
		bind = "unix:" + bind
	}
	name := d.freeName(p.name, target)
	d.supervised[name] = p
	t.keys = append([]key{{"name", toml(name), from}, {"kind", toml("asgi"), server}, {"target", toml(target), ""}}, t.keys...)
	if factory {
		t.set("factory", true, "")
	}
	if venv := venvOf(args[0]); venv != "" {
		t.set("python", venv, "")
	}
	if t.get("dir") == "" && dir != d.dir {
		t.set("dir", dir, "directory")
	}
	d.apps = append(d.apps, t)
	d.appEnvironment(t, p)
	d.appRest(t, p)
	d.serves[address(bind)] = appName(t)
	if !d.fronted {
		d.listen = append(d.listen, listenOf(bind))
	}
}

func joinDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// appEnvironment takes over what supervisord gave to a server of an application.
func (d *draft) appEnvironment(t *table, p *supervised) {
	if env := d.environment(t, p); len(env) > 0 {
		d.private = true
		if t.get("env") != "" {
			d.miss(t, p.place(), "environment", "the app has variables already: add %s", toml(env))
		} else {
			t.set("env", env, "environment")
		}
	}
	d.account(t, p)
}

// account takes over whom a program runs as, and its file mode mask.
func (d *draft) account(t *table, p *supervised) {
	switch user := p.get("user"); user {
	case "":
	case d.runsAs:
		// The host itself runs as it, as the note on [supervisord] says, and could not change it.
		d.needsNot(t, "supervisord", "user = "+user+" of [program:"+p.name+"]")
	default:
		t.set("user", user, "user")
	}
	if mask := p.get("umask"); mask != "" {
		t.set("umask", mask, "umask")
	}
}

// appKeys say of the keys of a program that is an app now why nothing is lost with them
// (empty), or what to do.
var appKeys = map[string]string{
	"command": "", "directory": "", "environment": "", "user": "", "umask": "", "autorestart": "", "redirect_stderr": "", "stopasgroup": "", "killasgroup": "",
	"stopsignal": "", "exitcodes": "", "process_name": "", "stdout_capture_maxbytes": "", "stderr_capture_maxbytes": "", "stdout_events_enabled": "",
	"stderr_events_enabled": "", "stdout_logfile_maxbytes": "", "stderr_logfile_maxbytes": "", "stdout_logfile_backups": "", "stderr_logfile_backups": "",
	"loglevel": "", "autostart": "workers start with the host", "numprocs": "raise workers instead", "numprocs_start": "raise workers instead",
	"priority": "workers wait for programs that after names", "startsecs": "boot_timeout is how long a worker may take to start",
	"startretries": "freeze_after is how many starts may fail", "stopwaitsecs": "server.graceful_timeout is how long a stop waits",
	"stdout_logfile": "what workers print goes to the host's output", "stderr_logfile": "what workers print goes to the host's output",
}

// appRest tells of the keys of a program that is an app now.
func (d *draft) appRest(t *table, p *supervised) {
	for _, name := range sortedKeys(p.keys) {
		value := p.get(name)
		switch why, known := appKeys[name]; {
		case slices.Contains([]string{"command", "directory", "environment", "user", "umask"}, name):
		case name == "stdout_logfile" || name == "stderr_logfile":
			if slices.Contains([]string{"AUTO", "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2"}, value) {
				d.needsNot(t, "supervisord", name)
			} else {
				d.miss(t, p.place(), name+" = "+value, "%s", why)
			}
		case !known:
			d.miss(t, p.place(), name+" = "+value, "there is nothing like it")
		case why == "", name == "autostart" && value == "true", name == "numprocs" && value == "1":
			d.needsNot(t, "supervisord", name)
		default:
			d.miss(t, p.place(), name+" = "+value, "%s", why)
		}
	}
}

// environment reads KEY="value",KEY2=value.
func (d *draft) environment(t *table, p *supervised) map[string]string {
	text := p.get("environment")
	env := map[string]string{}
	words, err := shellwords.Parse(splitPairs(text))
	if err != nil {
		d.miss(t, p.place(), "environment = "+text, "it cannot be taken apart")
		return nil
	}
	for _, word := range words {
		if name, value, ok := strings.Cut(word, "="); ok {
			env[name] = value
		}
	}
	return env
}

// splitPairs puts spaces for the commas outside quotes.
func splitPairs(text string) string {
	quoted := rune(0)
	return strings.Map(func(r rune) rune {
		switch {
		case quoted != 0 && r == quoted:
			quoted = 0
		case quoted == 0 && (r == '"' || r == '\''):
			quoted = r
		case quoted == 0 && (r == ',' || r == '\n'):
			return ' '
		}
		return r
	}, text)
}

// addProgram takes a program over, key by key.
func (d *draft) addProgram(p *supervised) {
	t := newTable("[[program]]", "")
	d.programs = append(d.programs, t)
	t.set("name", nameOf(p.name), p.place())
	t.set("command", p.words, "command")
	if dir := p.get("directory"); dir != "" {
		t.set("dir", d.absolute(dir), "directory")
	}
	if env := d.environment(t, p); len(env) > 0 {
		d.private = true
		t.set("env", env, "environment")
	}
	if n := p.get("numprocs"); n != "" && n != "1" {
		t.set("instances", number(n), "numprocs")
	}
	if p.get("autostart") == "false" {
		t.set("autostart", false, "autostart")
	}
	// Guado's own default is always, supervisord's unexpected.
	switch p.get("autorestart") {
	case "true":
		t.set("restart", config.RestartAlways, "autorestart")
	case "false":
		t.set("restart", config.RestartNever, "autorestart")
	default:
		t.set("restart", config.RestartOnFailure, "autorestart = unexpected")
	}
	d.programNumbers(t, p)
	d.programLogs(t, p)
	d.programRest(t, p)
}

func (d *draft) programNumbers(t *table, p *supervised) {
	if codes := p.get("exitcodes"); codes != "" && codes != "0" {
		var list []int
		for _, word := range strings.Split(codes, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(word)); err == nil {
				list = append(list, n)
			}
		}
		t.set("exit_codes", list, "exitcodes")
	}
	if n := p.get("startretries"); n != "" {
		t.set("start_retries", number(n), "startretries")
	}
	for _, times := range [][2]string{{"startsecs", "start_seconds"}, {"stopwaitsecs", "stop_timeout"}} {
		if n, err := strconv.Atoi(p.get(times[0])); err == nil {
			t.set(times[1], time.Duration(n)*time.Second, times[0])
		}
	}
	if signal := p.get("stopsignal"); signal != "" && signal != "TERM" {
		t.set("stop_signal", strings.TrimPrefix(signal, "SIG"), "stopsignal")
	}
	if p.get("stopasgroup") == "false" {
		t.set("stop_group", false, "stopasgroup")
	}
}

// programLogs takes over where output goes. AUTO and nothing mean the host's own.
func (d *draft) programLogs(t *table, p *supervised) {
	out, err := p.get("stdout_logfile"), p.get("stderr_logfile")
	if p.get("redirect_stderr") == "true" {
		err = out
	}
	for _, stream := range [][2]string{{"stdout", out}, {"stderr", err}} {
		switch file := stream[1]; file {
		case "", "AUTO", "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2":
		case "NONE", "/dev/null":
			t.set(stream[0], "/dev/null", stream[0]+"_logfile")
		case "syslog":
			d.miss(t, p.place(), stream[0]+"_logfile = syslog", "the host's output goes to the journal under systemd")
		default:
			t.set(stream[0], d.ownLog(t, p, d.absolute(file)), stream[0]+"_logfile")
		}
	}
	for _, key := range [][2]string{{"maxbytes", "log_size"}, {"backups", "log_keep"}} {
		texts := [2]string{p.get("stdout_logfile_" + key[0]), p.get("stderr_logfile_" + key[0])}
		from, text := "stdout_logfile_"+key[0], texts[0]
		if text == "" {
			from, text = "stderr_logfile_"+key[0], texts[1]
		}
		written := slices.ContainsFunc([]string{"stdout", "stderr"}, func(s string) bool { return t.get(s) != "" && t.get(s) != quote("/dev/null") })
		switch size, err := config.ParseSize(strings.TrimSuffix(strings.ToUpper(text), "B")); {
		case text == "":
		case !written:
			d.miss(t, p.place(), from+" = "+text, "nothing is written to a file")
		case key[0] == "backups":
			t.set(key[1], number(text), from)
		case err == nil:
			t.set(key[1], size, from)
		default:
			d.miss(t, p.place(), from+" = "+text, "it is no size")
		}
		if texts[0] != "" && texts[1] != "" {
			if texts[0] == texts[1] || t.get("stderr") == t.get("stdout") {
				d.needsNot(t, "supervisord", "stderr_logfile_"+key[0])
			} else {
				d.miss(t, p.place(), "stderr_logfile_"+key[0]+" = "+texts[1], "%s counts for both", key[1])
			}
		}
	}
}

// ownLog gives each instance a file of its own, as it rotates it.
func (d *draft) ownLog(t *table, p *supervised, file string) string {
	if n := t.get("instances"); n == "" || strings.Contains(file, "{number}") || strings.Contains(file, "{name}") {
		return file
	}
	ext := filepath.Ext(file)
	own := strings.TrimSuffix(file, ext) + "-{number}" + ext
	d.miss(t, p.place(), "one file for all of numprocs", "each instance has its own: %s", own)
	return own
}

// programKeys are those that the functions above have read; of the empty ones nothing is
// lost.
var programKeys = map[string]string{
	"command": "read", "directory": "read", "environment": "read", "numprocs": "read", "autostart": "read", "autorestart": "read", "exitcodes": "read",
	"startretries": "read", "startsecs": "read", "stopwaitsecs": "read", "stopsignal": "read", "stopasgroup": "read", "stdout_logfile": "read",
	"stderr_logfile": "read", "stdout_logfile_maxbytes": "read", "stdout_logfile_backups": "read", "stderr_logfile_maxbytes": "read",
	"stderr_logfile_backups": "read", "user": "read", "umask": "read", "redirect_stderr": "", "killasgroup": "", "stdout_capture_maxbytes": "",
	"stderr_capture_maxbytes": "", "stdout_events_enabled": "", "stderr_events_enabled": "", "loglevel": "",
}

// programDefaults are values with which nothing was written above.
var programDefaults = map[string][]string{
	"numprocs": {"1"}, "autostart": {"true"}, "exitcodes": {"0"}, "stopsignal": {"TERM", "SIGTERM"}, "stopasgroup": {"true"},
	"stdout_logfile": {"AUTO", "/dev/stdout", "/dev/fd/1"}, "stderr_logfile": {"AUTO", "/dev/stderr", "/dev/fd/2"},
}

func (d *draft) programRest(t *table, p *supervised) {
	d.account(t, p)
	if p.kind == "fcgi-program" {
		d.miss(t, p.place(), "socket = "+p.get("socket"), "FastCGI is not spoken")
	}
	for _, name := range sortedKeys(p.keys) {
		value := p.get(name)
		switch carried, known := programKeys[name]; {
		case name == "priority":
			d.miss(t, p.place(), "priority = "+value, "programs start at once; where one needs another, write after = [\"…\"]")
		case name == "process_name":
			if t.get("instances") != "" {
				d.miss(t, p.place(), "process_name = "+p.keys[name], "instances are called %s-1, %s-2 and so on", nameOf(p.name), nameOf(p.name))
			} else {
				d.miss(t, p.place(), "process_name = "+p.keys[name], "it is called %s", nameOf(p.name))
			}
		case p.kind == "fcgi-program" && strings.HasPrefix(name, "socket"):
		case !known:
			d.miss(t, p.place(), name+" = "+value, "there is nothing like it")
		case carried == "", slices.Contains(programDefaults[name], value):
			d.needsNot(t, "supervisord", name)
		case name == "stderr_logfile" && p.get("redirect_stderr") == "true":
			d.needsNot(t, "supervisord", name)
		}
	}
	if t.get("instances") != "" && strings.Contains(p.keys["command"]+p.keys["environment"], "%(process_num)") {
		d.miss(t, p.place(), "%(process_num) in command or environment", "{number} counts from 1 and has no zeros before it: look at ports and names made of it")
	}
}
