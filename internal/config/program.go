package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/robfig/cron/v3"
	"golang.org/x/sys/unix"
)

// Program is a supervised command: what supervisord's [program:x] is.
type Program struct {
	Name      string            `toml:"name" doc:"Unique name; with instances they are NAME-1, NAME-2 and so on."`
	Command   []string          `toml:"command" doc:"The command and its arguments, as a list; no shell reads it. In it and in dir, env, ready and the log files, {name} is the name of the instance and {number} its number from 1."`
	Group     string            `toml:"group" doc:"Group or app whose dir, python, environment, user and limits the program has; its own keys go over them."`
	Dir       string            `toml:"dir" path:"dir" doc:"Working directory. Empty: the group's, else the folder of the configuration file."`
	Python    string            `toml:"python" doc:"The interpreter whose virtual environment comes first on the PATH, as for a group. Empty: the group's, .venv in dir, .venv beside the configuration file, $VIRTUAL_ENV, then python3."`
	Env       map[string]string `toml:"env" doc:"Environment variables, over those of the host, the group and env_file."`
	EnvFile   string            `toml:"env_file" path:"file" doc:"A file of NAME=value lines for the environment."`
	SecretEnv map[string]string `toml:"secret_env" doc:"Environment variables whose values are read from the files named here."`

	After     []string `toml:"after" doc:"Programs that must be ready (once programs: have ended well) before this one starts. At a stop this one ends before them."`
	Ready     string   `toml:"ready" doc:"When it is ready: \"tcp:HOST:PORT\" or \"unix:PATH\" accepts connections, \"file:PATH\" is written, \"log:REGEXP\" matches a line of its output, \"notify\" it says READY=1 to $NOTIFY_SOCKET (sd_notify). Empty: it has run for start_seconds."`
	Instances int      `toml:"instances" default:"1" min:"1" doc:"How many processes run the command."`
	Autostart bool     `toml:"autostart" default:"true" doc:"Start it with the host. Otherwise it waits for guado program start."`

	Restart      string   `toml:"restart" enum:",always,on-failure,never" doc:"When it is started again by itself: always; on-failure: not after an exit code of exit_codes; never. Empty: always, for once programs on-failure, with a schedule never."`
	ExitCodes    []int    `toml:"exit_codes" default:"0" doc:"Exit codes that are no failure."`
	StartSeconds Duration `toml:"start_seconds" default:"1s" min:"0" doc:"A program that says nothing of when it is ready must run this long; an end before it is ready is a failed start."`
	StartRetries int      `toml:"start_retries" default:"10" min:"-1" doc:"Failed starts in a row that are followed by another one, with growing pauses; then the program is frozen until it is started by hand. -1: for ever."`
	ReadyTimeout Duration `toml:"ready_timeout" default:"0" min:"0" doc:"A program that is not ready within this time is ended: a failed start. 0: it is waited for."`
	RunTimeout   Duration `toml:"run_timeout" default:"0" min:"0" doc:"A process that runs longer is ended: a failure. 0: none."`

	Once     bool   `toml:"once" default:"false" doc:"It runs to its end once at each start of the host, as a migration does; programs and apps that come after it wait for an exit code of exit_codes."`
	Schedule string `toml:"schedule" doc:"Times at which it runs, as of cron: minute, hour, day of month, month, day of week (\"*/5 * * * *\"), or @hourly, @daily, @every 90s."`
	TimeZone string `toml:"time_zone" doc:"Time zone of the schedule (\"Europe/Rome\"). Empty: the host's."`
	Overlap  string `toml:"overlap" default:"skip" enum:"skip,queue,replace" doc:"When its time comes while it still runs: leave this one out, run once more afterwards, or end the running one first."`

	StopSignal  string   `toml:"stop_signal" default:"TERM" doc:"Signal that asks it to end: TERM, INT, QUIT, HUP, USR1, USR2 or another."`
	StopTimeout Duration `toml:"stop_timeout" default:"10s" min:"0" doc:"Then it is killed, with all of its process group."`
	StopGroup   bool     `toml:"stop_group" default:"true" doc:"Send the stop signal to its whole process group; false: to the program alone. What it leaves behind is killed in any case."`

	Account

	Stdout      string `toml:"stdout" path:"file" doc:"File for its standard output, rotated; /dev/null drops it. Empty: the host's, each line with the name before it."`
	Stderr      string `toml:"stderr" path:"file" doc:"The same for its standard error; the same file as stdout joins them."`
	OutputLimit int    `toml:"output_limit" default:"2000" min:"0" doc:"Lines a second that it may write to the host's output; five seconds' worth may come at once. What is over is counted and suppressed. 0: no limit."`
	LogSize     Size   `toml:"log_size" default:"50MiB" min:"0" doc:"A log file that grows over this is rotated (whole MiB). 0: never."`
	LogKeep     int    `toml:"log_keep" default:"10" min:"0" doc:"Rotated files that are kept. 0: all."`
	LogDays     int    `toml:"log_days" default:"0" min:"0" doc:"Rotated files older than this many days are deleted. 0: none."`
	LogCompress string `toml:"log_compress" default:"none" enum:"none,gzip,zstd" doc:"Rotated files are compressed."`
}

// Policies of a restart, as [Program.Policy] tells them.
const (
	RestartAlways    = "always"
	RestartOnFailure = "on-failure"
	RestartNever     = "never"
)

// NewProgram is a program with defaults.
func NewProgram(name string, command ...string) Program {
	p := Program{}
	fill(reflect.ValueOf(&p).Elem())
	p.Name, p.Command = name, command
	return p
}

// Program gives the program with this name; nil when there is none.
func (c *Config) Program(name string) *Program {
	for i := range c.Programs {
		if c.Programs[i].Name == name {
			return &c.Programs[i]
		}
	}
	return nil
}

// Policy is when the program is started again by itself.
func (p *Program) Policy() string {
	switch {
	case p.Restart != "":
		return p.Restart
	case p.Schedule != "":
		return RestartNever
	case p.Once:
		return RestartOnFailure
	}
	return RestartAlways
}

// Instance is the program as its n-th process runs it, from 1: with its own name, and
// what stands in braces replaced.
func (p *Program) Instance(n int) Program {
	one := *p
	if p.Instances > 1 {
		one.Name += "-" + strconv.Itoa(n)
	}
	replace := strings.NewReplacer("{name}", one.Name, "{number}", strconv.Itoa(n)).Replace
	one.Command = make([]string, len(p.Command))
	for i, word := range p.Command {
		one.Command[i] = replace(word)
	}
	one.Env = make(map[string]string, len(p.Env))
	for name, value := range p.Env {
		one.Env[name] = replace(value)
	}
	for _, text := range []*string{&one.Dir, &one.EnvFile, &one.Stdout, &one.Stderr, &one.Ready} {
		*text = replace(*text)
	}
	return one
}

// Environ is the environment of the program: that of its group, else base as a worker
// would have it, then env_file, env and secret_env. The files are read at each call.
func (c *Config) Environ(p *Program, base []string) ([]string, error) {
	if g := c.Group(p.Group); g != nil {
		var err error
		if base, err = g.Environ(base); err != nil {
			return nil, err
		}
	}
	own := Process{Env: p.Env, EnvFile: p.EnvFile, SecretEnv: p.SecretEnv}
	return own.Environ(base)
}

// Ready is a condition taken apart: its kind is tcp, unix, file, log, notify, or
// empty for time.
type Ready struct{ Kind, Value string }

// ParseReady reads the key ready.
func ParseReady(text string) (Ready, error) {
	kind, value, _ := strings.Cut(text, ":")
	r := Ready{Kind: kind, Value: value}
	switch {
	case text == "", text == "notify":
		return r, nil
	case (kind == "unix" || kind == "file") && value != "":
		return r, nil
	case kind == "tcp":
		at := strings.LastIndexByte(value, ':')
		if port, err := strconv.Atoi(value[at+1:]); at < 0 || err != nil || port < 1 || port > 65535 {
			return r, fmt.Errorf("must be tcp:HOST:PORT, as \"tcp:127.0.0.1:4000\"")
		}
		return r, nil
	case kind == "log" && value != "":
		if _, err := regexp.Compile(value); err != nil {
			return r, fmt.Errorf("is no regular expression: %w", err)
		}
		return r, nil
	}
	return r, fmt.Errorf("must be tcp:HOST:PORT, unix:PATH, file:PATH, log:REGEXP or notify")
}

// ParseSchedule reads a cron expression; zone is a name of the time zone database.
func ParseSchedule(text, zone string) (cron.Schedule, error) {
	if strings.Contains(text, "TZ=") {
		return nil, fmt.Errorf("names a time zone; use time_zone for it")
	}
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("is no cron expression: %w", err)
	}
	if spec, ok := s.(*cron.SpecSchedule); ok && zone != "" {
		if spec.Location, err = time.LoadLocation(zone); err != nil {
			return nil, err
		}
	}
	if s.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("never comes: there is no such date")
	}
	return s, nil
}

// ParseSignal reads TERM, SIGTERM or 15.
func ParseSignal(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if s := unix.SignalNum(name); s != 0 {
		return s, nil
	}
	return 0, fmt.Errorf("is no signal; write TERM, INT, QUIT, HUP, USR1 or USR2")
}

// programs completes what programs take from their groups, before paths are made absolute.
func (r *resolver) programs() {
	for i := range r.Programs {
		p := &r.Programs[i]
		if ready, err := ParseReady(p.Ready); err == nil && (ready.Kind == "unix" || ready.Kind == "file") {
			p.Ready = ready.Kind + ":" + r.absolute(ready.Value)
		}
		for name, file := range p.SecretEnv {
			p.SecretEnv[name] = r.absolute(file)
		}
		if a := r.App(p.Group); a != nil && r.Group(p.Group) == nil {
			p.Group = a.Group // the app joined one
		}
		g := r.Group(p.Group)
		if p.Dir == "" {
			p.Dir = r.Dir
			if g != nil && g.Dir != "" {
				p.Dir = g.Dir
			}
		}
		if g != nil {
			p.inherit(&g.Account)
		}
		if p.Python == "" && g != nil {
			p.Python = g.Python
		} else if p.Python != "" {
			p.Python = r.python(p.Python)
		}
	}
}

// inherit takes what of an account the program does not say itself.
func (p *Program) inherit(a *Account) {
	if p.User == "" {
		p.User = a.User
	}
	if p.Umask == "" {
		p.Umask = a.Umask
	}
	if p.Rlimits == nil {
		p.Rlimits = a.Rlimits
	}
	if p.OOMScoreAdj == 0 {
		p.OOMScoreAdj = a.OOMScoreAdj
	}
}

// checkPrograms looks for what would fail later, or never end.
func (r *resolver) checkPrograms() {
	for i := range r.Programs {
		r.checkProgram(i)
	}
	for i := range r.Groups {
		g := &r.Groups[i]
		shown := "group." + g.Name
		if a := r.App(g.Name); a != nil && a.Group == g.Name {
			shown = "app." + g.Name
		}
		r.checkAfter(g.After, element("group", i), shown)
	}
	if circle := r.circle(); circle != nil {
		at := slices.IndexFunc(r.Programs, func(p Program) bool { return p.Name == circle[0] })
		r.wrong(element("program", at)+".after", "program."+circle[0]+".after", nil,
			"programs wait for each other in a circle, so none would start: %s", strings.Join(circle, " → "))
	}
}

func (r *resolver) checkProgram(i int) {
	p, path, shown := &r.Programs[i], element("program", i), "program."+r.Programs[i].Name
	bad := func(key string, value any, format string, args ...any) {
		r.wrong(join(path, key), join(shown, key), value, format, args...)
	}
	r.checkCommand(p, path, shown)
	if p.Group != "" && r.Group(p.Group) == nil {
		bad("group", p.Group, "there is no such [[group]] or [[app]]; %s", hint(p.Group, r.groupNames()))
	}
	if !strings.ContainsRune(p.Dir, '{') {
		r.checkPath(join(path, "dir"), join(shown, "dir"), p.Dir, true)
	}
	if p.EnvFile != "" && !strings.ContainsRune(p.EnvFile, '{') {
		r.checkPath(join(path, "env_file"), join(shown, "env_file"), p.EnvFile, false)
	}
	for name := range p.Env {
		if !envForm.MatchString(name) {
			bad("env."+name, nil, "is not a name that an environment variable can have")
		}
	}
	for name, file := range p.SecretEnv {
		r.checkPath(join(path, "secret_env."+name), join(shown, "secret_env."+name), file, false)
	}
	r.checkAfter(p.After, path, shown)
	if _, err := ParseReady(p.Instance(1).Ready); err != nil {
		bad("ready", p.Ready, "%s", err)
	}
	if _, err := ParseSignal(p.StopSignal); err != nil {
		bad("stop_signal", p.StopSignal, "%s", err)
	}
	r.checkAccount(&p.Account, path, shown)
	r.checkKind(p, bad)
	for key, file := range map[string]string{"stdout": p.Stdout, "stderr": p.Stderr} {
		switch shared := p.Instances > 1 && file == p.Instance(1).logFile(key); {
		case file == "" || file == "/dev/null":
		case shared:
			bad(key, file, "all %d instances would write and rotate one file; put {name} or {number} into it", p.Instances)
		default:
			r.checkPath(join(path, key), join(shown, key), filepath.Dir(file), true)
		}
	}
}

func (p Program) logFile(key string) string {
	if key == "stderr" {
		return p.Stderr
	}
	return p.Stdout
}

// checkKind holds once and scheduled programs to what they can be.
func (r *resolver) checkKind(p *Program, bad func(key string, value any, format string, args ...any)) {
	switch {
	case p.Once && p.Schedule != "":
		bad("once", true, "a program with a schedule runs at its times; remove one of the two")
	case p.Once && p.Restart == RestartAlways:
		bad("restart", p.Restart, "a once program runs to its end once; use on-failure or never")
	case p.Schedule != "" && p.Policy() != RestartNever:
		bad("restart", p.Restart, "a program with a schedule is started at its times only")
	case (p.Once || p.Schedule != "") && p.Ready != "":
		bad("ready", p.Ready, "a program that runs to its end is done when it ends; remove ready")
	case p.Instances < 1:
		bad("instances", p.Instances, "must be at least 1")
	case p.Instances > 1 && p.Once:
		bad("instances", p.Instances, "a once program runs once; remove one of the two")
	}
	if p.Schedule != "" {
		if _, err := ParseSchedule(p.Schedule, p.TimeZone); err != nil {
			bad("schedule", p.Schedule, "%s", err)
		}
	} else if p.TimeZone != "" {
		bad("time_zone", p.TimeZone, "is for programs with a schedule only")
	}
}

func (r *resolver) checkCommand(p *Program, path, shown string) {
	switch {
	case len(p.Command) == 0 || p.Command[0] == "":
		r.wrong(path, shown, nil, "needs a command, as command = [\"python\", \"-m\", \"tasks\"]")
	case len(p.Command) == 1 && strings.ContainsAny(p.Command[0], " \t"):
		words := strings.Fields(p.Command[0])
		for i, word := range words {
			words[i] = strconv.Quote(word)
		}
		r.wrong(join(path, "command"), join(shown, "command"), p.Command[0],
			"is one word with spaces; no shell takes it apart: write [%s], or [\"sh\", \"-c\", …] for a shell", strings.Join(words, ", "))
	}
}

// checkAfter wants names of programs that can be waited for.
func (r *resolver) checkAfter(after []string, path, shown string) {
	for _, name := range after {
		o := r.Program(name)
		switch {
		case o == nil:
			names := make([]string, len(r.Programs))
			for i := range r.Programs {
				names[i] = r.Programs[i].Name
			}
			r.wrong(join(path, "after"), join(shown, "after"), name, "there is no such [[program]]; %s", hint(name, names))
		case o.Schedule != "":
			r.wrong(join(path, "after"), join(shown, "after"), name, "has a schedule, so nothing can wait for it")
		}
	}
}

func (r *resolver) groupNames() []string {
	names := make([]string, 0, len(r.Groups))
	for i := range r.Groups {
		names = append(names, r.Groups[i].Name)
	}
	return names
}

// circle gives programs that wait for each other, the first one again at the end.
func (c *Config) circle() []string {
	done := map[string]bool{}
	var trail []string
	var visit func(name string) []string
	visit = func(name string) []string {
		if at := slices.Index(trail, name); at >= 0 {
			return append(slices.Clone(trail[at:]), name)
		}
		p := c.Program(name)
		if p == nil || done[name] {
			return nil
		}
		trail = append(trail, name)
		for _, other := range p.After {
			if found := visit(other); found != nil {
				return found
			}
		}
		trail = trail[:len(trail)-1]
		done[name] = true
		return nil
	}
	for i := range c.Programs {
		if found := visit(c.Programs[i].Name); found != nil {
			return found
		}
	}
	return nil
}
