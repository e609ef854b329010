package adopt

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-shellwords"
)

// gunicorn is what is known of one gunicorn: settings by name, each a list (most of
// one word), and where they were read.
type gunicorn struct {
	settings map[string][]string
	from     string
	target   string   // MODULE:ATTR
	dir      string   // where it was started
	venv     string   // whose gunicorn it is
	name     string   // supervisord's name for it
	whole    bool     // settings has the defaults, too
	unknown  []string // of settings: options of the command line that no version had when this was written
}

// value gives a setting that has one word, "" when it is not set.
func (g *gunicorn) value(name string) string {
	if v := g.settings[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// patience is how long a command of the old stack may take to say what it is.
const patience = 30 * time.Second

// readGunicorn asks a command for its settings, or reads a configuration file.
func readGunicorn(ctx context.Context, o *Options) (*gunicorn, error) {
	path := o.Gunicorn
	if !filepath.IsAbs(path) {
		path = filepath.Join(o.Dir, path)
	}
	if isFile(path) {
		return readGunicornFile(ctx, o, path)
	}
	words, err := shellwords.Parse(o.Gunicorn)
	if err != nil || len(words) == 0 {
		return nil, fmt.Errorf("%q is neither a file nor a command: %w", o.Gunicorn, errors.Join(err))
	}
	return askGunicorn(ctx, o, words, o.Dir)
}

// askGunicorn runs the command with --print-config. It also imports the application,
// whose failure does not matter here.
func askGunicorn(ctx context.Context, o *Options, words []string, dir string) (*gunicorn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	program := located(words[0], dir)
	cmd := exec.CommandContext(ctx, program, append(words[1:len(words):len(words)], "--print-config")...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, o.Environ, time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	g := &gunicorn{settings: printed(out.String()), from: "gunicorn --print-config", dir: dir, venv: venvOf(program), whole: true}
	if len(g.settings) < 10 {
		return nil, fmt.Errorf("%s --print-config did not print its settings (%w): %s", strings.Join(words, " "), errors.Join(err), lastLine(errOut.String()))
	}
	g.target = g.value("wsgi_app")
	if g.target == "" {
		g.target = g.value("default_proc_name") // gunicorn keeps the application of its command line there
	}
	if g.target == "gunicorn" {
		g.target = ""
	}
	return g, nil
}

// located gives the whole path of a command, which tells whose environment it is of;
// the command as it is when there is none.
func located(command, dir string) string {
	switch path, err := exec.LookPath(command); {
	case filepath.IsAbs(command):
		return command
	case strings.Contains(command, "/"):
		return filepath.Join(dir, command)
	case err == nil:
		return path
	}
	return command
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

var (
	settingLine = regexp.MustCompile(`(?m)^([a-z_0-9]+) += (.*)$`)
	pyString    = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"`)
)

// printed reads what --print-config prints: names, and values as Python spells them.
func printed(text string) map[string][]string {
	settings := map[string][]string{}
	for _, m := range settingLine.FindAllStringSubmatch(text, -1) {
		switch value := strings.TrimSpace(m[2]); {
		case value == "None", value == "", value == "[]", value == "{}":
		case strings.HasPrefix(value, "["):
			for _, word := range pyString.FindAllStringSubmatch(value, -1) {
				settings[m[1]] = append(settings[m[1]], word[1]+word[2])
			}
		default:
			settings[m[1]] = []string{value}
		}
	}
	return settings
}

//go:embed gunicorn_file.py
var gunicornFile string

// readGunicornFile lets Python read a configuration file, as gunicorn does.
func readGunicornFile(ctx context.Context, o *Options, path string) (*gunicorn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	python := o.Python
	if python == "" {
		python = "python3"
	}
	cmd := exec.CommandContext(ctx, python, "-c", gunicornFile, path)
	cmd.Dir, cmd.Env, cmd.WaitDelay = o.Dir, o.Environ, time.Second
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s could not be read by %s (%w): %s", path, python, err, lastLine(errOut.String()))
	}
	g := &gunicorn{from: filepath.Base(path), dir: o.Dir}
	if err := json.Unmarshal(out, &g.settings); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	g.target = g.value("wsgi_app")
	return g, nil
}

// gunicornFlags are the options of its command line that carry a setting.
var gunicornFlags = map[string]string{
	"-b": "bind", "--bind": "bind", "-w": "workers", "--workers": "workers", "-k": "worker_class", "--worker-class": "worker_class",
	"--threads": "threads", "-t": "timeout", "--timeout": "timeout", "--graceful-timeout": "graceful_timeout", "--keep-alive": "keepalive",
	"--max-requests": "max_requests", "--max-requests-jitter": "max_requests_jitter", "--chdir": "chdir", "--pythonpath": "pythonpath",
	"-e": "raw_env", "--env": "raw_env", "-u": "user", "--user": "user", "-g": "group", "--group": "group", "-m": "umask", "--umask": "umask",
	"--certfile": "certfile", "--keyfile": "keyfile", "--access-logfile": "accesslog", "--error-logfile": "errorlog", "--log-file": "errorlog",
	"--log-level": "loglevel", "--limit-request-line": "limit_request_line", "--limit-request-fields": "limit_request_fields",
	"--forwarded-allow-ips": "forwarded_allow_ips", "-p": "pidfile", "--pid": "pidfile", "-n": "proc_name", "--name": "proc_name",
	"-c": "config", "--config": "config", "--paste": "paste", "--worker-tmp-dir": "worker_tmp_dir", "--backlog": "backlog",
	"--worker-connections": "worker_connections", "--access-logformat": "access_log_format", "--log-config": "logconfig",
	"--statsd-host": "statsd_host", "--limit-request-field_size": "limit_request_field_size", "--logger-class": "logger_class",
}

// gunicornSwitches are the options without a value, with what they set.
var gunicornSwitches = map[string]string{
	"--reload": "reload", "--preload": "preload_app", "-D": "daemon", "--daemon": "daemon", "--capture-output": "capture_output",
	"--check-config": "check_config", "--print-config": "print_config", "--spew": "spew", "--no-sendfile": "sendfile", "--reuse-port": "reuse_port",
	"--initgroups": "initgroups", "-R": "enable_stdio_inheritance", "--enable-stdio-inheritance": "enable_stdio_inheritance",
	"--strip-header-spaces": "strip_header_spaces", "--casefold-http-method": "casefold_http_method",
	"--disable-redirect-access-to-syslog": "disable_redirect_access_to_syslog", "--do-handshake-on-connect": "do_handshake_on_connect",
	"--suppress-ragged-eofs": "suppress_ragged_eofs", "--no-control-socket": "control_socket_disable",
	"--permit-obsolete-folding": "permit_obsolete_folding",
}

// readGunicornCommand takes a command line apart without running it: the command of a
// supervisord elsewhere may not be here.
func readGunicornCommand(ctx context.Context, o *Options, words []string, dir, from string) (*gunicorn, error) {
	g := &gunicorn{settings: map[string][]string{}, from: from, dir: dir, venv: venvOf(words[0])}
	for i := 1; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i], "=")
		setting := gunicornFlags[name]
		switch {
		case !strings.HasPrefix(words[i], "-"):
			g.target = words[i]
		case gunicornSwitches[name] != "":
			g.settings[gunicornSwitches[name]] = []string{"True"}
		case setting == "":
			if !joined && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
				i++
				value = words[i]
			}
			name = strings.ReplaceAll(strings.TrimLeft(name, "-"), "-", "_")
			g.settings[name], g.unknown = []string{value}, append(g.unknown, name)
		case joined:
			g.settings[setting] = append(g.settings[setting], value)
		case i+1 < len(words):
			i++
			g.settings[setting] = append(g.settings[setting], words[i])
		}
	}
	if file := g.value("config"); file != "" {
		path := strings.TrimPrefix(file, "file:")
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if more, err := readGunicornFile(ctx, &Options{Dir: dir, Environ: o.Environ, Python: o.Python}, path); err == nil {
			g.under(more)
		} else {
			g.settings["config"] = []string{path}
			return g, err
		}
	}
	delete(g.settings, "config")
	return g, nil
}

// under takes from a file what the command line does not say.
func (g *gunicorn) under(file *gunicorn) {
	for name, value := range file.settings {
		if g.settings[name] == nil {
			g.settings[name] = slices.Clone(value)
		}
	}
	if g.target == "" {
		g.target = file.target
	}
}
