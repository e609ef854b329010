package adopt

import (
	"context"
	"fmt"
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
			d.apps[0].about = strings.TrimSpace(d.apps[0].about + " It ran as [program:" + p.name + "] of supervisord.")
			d.appEnvironment(d.apps[0], p)
		case server == "gunicorn":
			g, err := readGunicornCommand(ctx, o, args, dir, p.from+" [program:"+p.name+"]")
			if err != nil {
				d.miss(nil, p.from, strings.Join(p.words, " "), "%s", err)
			}
			g.name = p.name
			d.addGunicorn(g)
			d.appEnvironment(d.apps[len(d.apps)-1], p)
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

// addASGI makes an app of uvicorn, daphne or hypercorn.
func (d *draft) addASGI(p *supervised, server string, args []string, dir string) {
	from := p.from + " [program:" + p.name + "]"
	t := newTable("[[app]]", "")
	host, port, target, factory := "127.0.0.1", "8000", "", false
	bind := ""
	valued := map[string]*string{
		"--host": &host, "--port": &port, "-p": &port, "-b": &bind, "--bind": &bind, "-u": &bind, "--uds": &bind, "--unix-socket": &bind,
	}
	sets := map[string]string{"--workers": "workers", "-w": "workers", "--root-path": "", "--app-dir": "dir", "--env-file": "env_file", "--lifespan": "lifespan"}
	for i := 1; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		next := func() string {
			if !joined && i+1 < len(args) {
				i++
				value = args[i]
			}
			return value
		}
		switch key, carried := sets[name]; {
		case valued[name] != nil:
			*valued[name] = next()
		case carried && key != "":
			if text := next(); key == "dir" || key == "env_file" {
				t.set(key, joinDir(dir, text), name)
			} else {
				t.set(key, number(text), name)
			}
		case name == "--factory":
			factory = true
		case slices.Contains([]string{"--ws", "--loop", "--http", "--log-level", "--forwarded-allow-ips", "--timeout-keep-alive", "--backlog", "--interface", "--log-config"}, name):
			next()
		case name == "--reload" || name == "--proxy-headers" || name == "--no-access-log":
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
	t.keys = append([]key{{"name", toml(d.freeName(p.name, target)), from}, {"kind", toml("asgi"), server}, {"target", toml(target), ""}}, t.keys...)
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
		if t.get("env") != "" {
			d.miss(t, p.from, "environment of [program:"+p.name+"]", "the app has variables already: add %s", toml(env))
			return
		}
		t.set("env", env, "environment")
	}
	if user := p.get("user"); user != "" {
		d.maybe(t, "app", "user", user, p.from, "user")
	}
}

// environment reads KEY="value",KEY2=value.
func (d *draft) environment(t *table, p *supervised) map[string]string {
	text := p.get("environment")
	env := map[string]string{}
	words, err := shellwords.Parse(splitPairs(text))
	if err != nil {
		d.miss(t, p.from, "environment = "+text, "it cannot be taken apart")
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
	t.set("name", nameOf(p.name), p.from)
	t.set("command", p.words, "")
	if dir := p.get("directory"); dir != "" {
		t.set("dir", d.absolute(dir), "")
	}
	if env := d.environment(t, p); len(env) > 0 {
		t.set("env", env, "environment")
	}
	if n := p.get("numprocs"); n != "" && n != "1" {
		t.set("instances", number(n), "numprocs")
	}
	if p.get("autostart") == "false" {
		t.set("autostart", false, "")
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
			d.miss(t, p.from, stream[0]+"_logfile = syslog", "the host's output goes to the journal under systemd")
		default:
			t.set(stream[0], d.absolute(file), stream[0]+"_logfile")
		}
	}
	if t.get("stdout") == "" && t.get("stderr") == "" {
		return
	}
	if text := p.get("stdout_logfile_maxbytes"); text != "" {
		size, err := config.ParseSize(strings.ToUpper(strings.TrimSuffix(strings.ToUpper(text), "B")))
		if err == nil {
			t.set("log_size", size, "stdout_logfile_maxbytes")
		}
	}
	if n := p.get("stdout_logfile_backups"); n != "" {
		t.set("log_keep", number(n), "stdout_logfile_backups")
	}
}

// programKeys are those that the functions above have read.
var programKeys = []string{
	"command", "directory", "environment", "numprocs", "autostart", "autorestart", "exitcodes", "startretries", "startsecs", "stopwaitsecs",
	"stopsignal", "stopasgroup", "killasgroup", "stdout_logfile", "stderr_logfile", "redirect_stderr", "stdout_logfile_maxbytes", "stdout_logfile_backups",
	"stderr_logfile_maxbytes", "stderr_logfile_backups", "process_name", "user", "umask", "priority", "stdout_capture_maxbytes", "stderr_capture_maxbytes",
	"stdout_events_enabled", "stderr_events_enabled", "loglevel",
}

func (d *draft) programRest(t *table, p *supervised) {
	if user := p.get("user"); user != "" {
		d.maybe(t, "program", "user", user, p.from, "user")
	}
	if mask := p.get("umask"); mask != "" {
		d.maybe(t, "program", "umask", mask, p.from, "umask")
	}
	if n := p.get("priority"); n != "" {
		d.miss(t, p.from, "priority = "+n, "programs start at once; where one needs another, write after = [\"…\"]")
	}
	if p.kind == "fcgi-program" {
		d.miss(t, p.from, "socket = "+p.get("socket"), "FastCGI is not spoken")
	}
	for _, name := range sortedKeys(p.keys) {
		if !slices.Contains(programKeys, name) && (p.kind != "fcgi-program" || !strings.HasPrefix(name, "socket")) {
			d.miss(t, p.from, fmt.Sprintf("%s = %s", name, p.get(name)), "there is nothing like it")
		}
	}
}
