package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/version"
)

// usages are command lines, their exit codes, and what they say: on standard output and
// error together. TAKEN is an address that somebody listens at, DIR the folder.
var usages = []struct {
	args string
	code int
	says []string
}{
	{"version", 0, []string{"guado " + version.Version}},
	{"--version", 0, []string{"guado " + version.Version}},
	{"", 0, []string{"Usage:", "serve", "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the only"}},
	{"check --config good.toml", 0, []string{"ok: 1 app, 1 mount"}},
	{"check --load --config good.toml", 0, []string{"hello: WSGI application hello", "ok: 1 app"}},
	{"check --load hello", 0, []string{"ok: 1 app"}},
	{"check --config nothere.toml", 0, []string{`program gone cannot be started here: there is no command "nosuch-command" on the PATH`, `program file cannot be started here: there is no command "DIR/run"`, "ok: 1 app, 1 mount, 2 programs"}},
	{"check --load --config nothere.toml", 1, []string{"program gone cannot be started here", "guado: 2 programs cannot be started"}},

	{"check --load broken", 1, []string{"broken.py\", line 1", "ModuleNotFoundError: No module named 'nothere_at_all'", "hint: ", "guado: 1 app cannot be loaded"}},
	{"serve --listen TAKEN hello", 1, []string{"guado: ", "TAKEN", "in use"}},

	{"password an:na", 2, []string{"no name of a user"}},
	{"password anna", 1, []string{"the password is empty"}},
	{"serv", 2, []string{`unknown command "serv"`, "Did you mean this?", "serve", "Try 'guado --help'"}},
	{"serve --treads 3 hello", 2, []string{"unknown flag: --treads; did you mean --threads?"}},
	{"serve", 2, []string{"guado serve MODULE:ATTR", "--config FILE", "no guado.toml here"}},
	{"check", 2, []string{"guado check MODULE:ATTR"}},
	{"config show", 2, []string{"guado config show MODULE:ATTR"}},
	{"serve a b", 2, []string{"not 2 (a b)"}},
	{"serve --config good.toml hello", 2, []string{"either an application or --config"}},
	{"serve good.toml", 2, []string{"--config good.toml"}},
	{"serve --config none.toml", 2, []string{"--config none.toml: no such file"}},
	{"serve --config good.toml --threads 3", 2, []string{"--threads describes an application on the command line"}},
	{"serve --threads many hello", 2, []string{`--threads: app.hello.threads = "many": must be a whole number`}},
	{"serve --kind php hello", 2, []string{`--kind: app.hello.kind = "php"`, "known are: auto, wsgi, asgi"}},
	{"serve --listen 127.0.0.1:99999 hello", 2, []string{`--listen: server.listen = "127.0.0.1:99999": "99999" is not a port`}},
	{"serve --tls-cert x.pem hello", 2, []string{"cert and key must both be set"}},
	{"serve --python ./nope hello", 2, []string{"--python: app.hello.python = ", "/nope", "does not exist"}},
	{"serve hello.py", 2, []string{"is a file; name the module"}},
	{"check --config wrong.toml", 2, []string{"the configuration has 2 problems", "wrong.toml:2: server.listen", "wrong.toml:5: app.hello.treads: unknown key; did you mean \"threads\"?"}},
	{"check --config syntax.toml", 2, []string{"syntax.toml:1:"}},
	{"config show --config wrong.toml", 2, []string{"wrong.toml:5"}},
	{"config sho", 2, []string{"unknown command"}},
	{"version extra", 2, []string{"unknown command \"extra\""}},

	{"serve --listen 127.0.0.1:0 broken", 3, []string{"Traceback (most recent call last):\n  File \"DIR/broken.py\", line 1, in <module>\n", "error=\"ModuleNotFoundError", "\nhint: ", "guado: broken could not be started\n"}},
	{"serve --listen 127.0.0.1:0 syntax", 3, []string{"SyntaxError: ", "/syntax.py, line 2)", "guado: syntax could not be started\n"}},
	{"serve --listen 127.0.0.1:0 hello.application", 3, []string{"\nhint: did you mean hello:application?"}},
	{"serve --listen 127.0.0.1:0 --kind asgi hello", 3, []string{"cannot be called as ASGI", "--kind wsgi"}},
	{"serve --config away.toml", 3, []string{"\nhint: is dir right?"}},
	{"check --load --config away.toml", 1, []string{"hint: is dir right?"}},
	{"check --load nosuch", 1, []string{"hint: is --dir right?"}},
	{"serve --listen 127.0.0.1:0 helo", 3, []string{"no module named 'helo'", "did you mean hello?"}},
	{"serve --listen 127.0.0.1:0 hello:applicatio", 3, []string{"has no attribute 'applicatio'", "did you mean application?"}},
	{"serve --listen 127.0.0.1:0 asgi2:app", 3, []string{"ASGI 2"}},
}

func TestExitCodesAndMessages(t *testing.T) {
	dir := project(t, map[string]string{
		"hello.py": hello, "broken.py": "import nothere_at_all\n", "asgi2.py": "class app:\n    def __init__(self, scope): pass\n    async def __call__(self, receive, send): pass\n",
		"nothere.toml": "[[app]]\ntarget = \"hello\"\n[[program]]\nname = \"gone\"\ncommand = [\"nosuch-command\"]\n[[program]]\nname = \"file\"\ncommand = [\"./run\"]\n",
		"good.toml":    "[[app]]\ntarget = \"hello\"\n", "wrong.toml": "[server]\nlisten = [\"x:y:z\"]\n[[app]]\ntarget = \"hello\"\ntreads = 1\n", "syntax.toml": "[server\n",
		"syntax.py": "x = 1\ndef broken(:\n    pass\n", "away.toml": "[server]\nlisten = [\"127.0.0.1:0\"]\n[[app]]\ntarget = \"nosuch:app\"\n",
	})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // of the test
	place := strings.NewReplacer("TAKEN", taken.Addr().String(), "DIR", dir)
	for _, c := range usages {
		t.Run(strings.ReplaceAll(c.args, "/", "_"), func(t *testing.T) {
			r := run(t, dir, strings.Fields(place.Replace(c.args))...)
			if r.code != c.code {
				t.Errorf("exit code %d, want %d", r.code, c.code)
			}
			for _, text := range c.says {
				if text = place.Replace(text); !strings.Contains(r.out+r.err, text) {
					t.Errorf("it does not say %q", text)
				}
			}
			if n := strings.Count(r.err, "hint: "); n > 1 {
				t.Errorf("%d reports", n)
			}
			if c.code != 0 && strings.Contains(r.out, "guado:") {
				t.Error("the error is on standard output")
			}
			if t.Failed() {
				t.Logf("standard output:\n%s\nstandard error:\n%s", r.out, r.err)
			}
		})
	}
}

func TestTheConfigurationPrintsWhatItsPackageMakes(t *testing.T) {
	dir := project(t, map[string]string{"guado.toml": "[server]\nlog_level = \"warn\"\n[[app]]\ntarget = \"hello\"\n"})
	schema, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	for verb, want := range map[string]string{"default": config.DefaultFile(), "doc": config.Reference(), "schema": string(schema)} {
		if r := run(t, dir, "config", verb); r.code != 0 || r.out != want {
			t.Errorf("config %s: exit %d, %d bytes, want %d", verb, r.code, len(r.out), len(want))
		}
	}
	shown, set := run(t, dir, "config", "show"), run(t, dir, "config", "show", "--set")
	for _, want := range []string{`log_level = "warn"`, "# guado.toml:2", `target = "hello"`} {
		if !strings.Contains(shown.out, want) || !strings.Contains(set.out, want) {
			t.Errorf("config show does not say %q:\n%s\n--set:\n%s", want, shown.out, set.out)
		}
	}
	if inEffect := `graceful_timeout = "25s"`; !strings.Contains(shown.out, inEffect) || strings.Contains(set.out, inEffect) || shown.out[0] == '\n' {
		t.Errorf("config show:\n%s\n--set:\n%s", shown.out, set.out)
	}
	warned := program(t, dir, "check")
	warned.Env = append(warned.Env, "GUADO_SERVER_LOG_LEVEL=debug")
	if text, err := warned.CombinedOutput(); err != nil || !strings.Contains(string(text), "guado: warning: GUADO_SERVER_LOG_LEVEL has no effect; did you mean GUADO__SERVER__LOG_LEVEL?") {
		t.Errorf("%v, %s", err, text)
	}
	var all map[string]map[string]any
	text := run(t, dir, "config", "show", "--json").out
	if err := json.Unmarshal([]byte(text), &struct {
		Server *map[string]any `json:"server"`
	}{}); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	_ = json.Unmarshal([]byte(text), &all) // arrays do not fit; the server does
	if all["server"]["log_level"] != "warn" {
		t.Errorf("log_level is %v", all["server"]["log_level"])
	}
	if err := os.WriteFile(filepath.Join(dir, "again.toml"), []byte(shown.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, dir, "check", "--config", "again.toml"); r.code != 0 {
		t.Errorf("what config show prints is refused: %s", r.err)
	}
}

func TestVersionIsForProgramsToo(t *testing.T) {
	var b build
	if err := json.Unmarshal([]byte(run(t, t.TempDir(), "version", "--json").out), &b); err != nil {
		t.Fatal(err)
	}
	if b.Version != version.Version || b.Go == "" || b.OS == "" || b.Protocol == 0 {
		t.Errorf("%+v", b)
	}
}

func TestTheWorkersPackageHasTheSameVersion(t *testing.T) {
	text, err := os.ReadFile("../../python/guado/__init__.py")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `__version__ = "`+version.Version+`"`) {
		t.Errorf("python/guado/__init__.py is not version %s:\n%s", version.Version, text)
	}
}

func TestShellsAreToldWhatMayFollow(t *testing.T) {
	dir := t.TempDir()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := run(t, dir, "completion", shell); r.code != 0 || !strings.Contains(r.out, "guado") {
			t.Errorf("completion %s: exit %d, %d bytes", shell, r.code, len(r.out))
		}
	}
	for line, want := range map[string][]string{
		"":                   {"adopt", "check", "completion", "config", "connections", "dev", "doctor", "exec", "global", "help", "logs", "maintenance", "migrate", "pages", "password", "pause", "program", "ps", "publish", "push", "reload", "resume", "serve", "service", "status", "stop", "users", "version", "workers"},
		"serve --kind ":      {"auto", "wsgi", "asgi"},
		"serve --log-level ": {"debug", "info", "warn", "error"},
		"serve --thr":        {"--threads"},
		"config ":            {"default", "doc", "schema", "show"},
	} {
		args := append([]string{"__completeNoDesc"}, strings.Split(line, " ")...)
		var words []string
		for word := range strings.FieldsSeq(run(t, dir, args...).out) {
			if !strings.HasPrefix(word, ":") {
				words = append(words, word)
			}
		}
		if !slices.Equal(words, want) {
			t.Errorf("%q: %q, want %q", line, words, want)
		}
	}
}

// The flags of serve are a promise: these and no others.
func TestServeHasExactlyItsFlags(t *testing.T) {
	c := &command{}
	flags := []string{}
	for line := range strings.Lines(c.serve().Flags().FlagUsages()) {
		flags = append(flags, strings.Fields(line)[0])
	}
	want := strings.Fields("--config --listen --kind --dir --python --threads --workers --factory --tls-cert --tls-key --trusted-proxy --root-path --env-file --access-log --log-level --request-timeout --graceful-timeout")
	if !slices.Equal(flags, want) {
		t.Errorf("flags %q\nwant %q", flags, want)
	}
}

func TestEveryVerbIsExplained(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short text %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.HasParent() && cmd.HasAvailableLocalFlags() && cmd.Name() != "version" && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit((&command{}).root())
}

// acting are the verbs that do something, or print what never changes; all others read,
// and have a form for programs.
var acting = strings.Fields(`serve dev check exec adopt config help completion bash zsh fish powershell default doc schema
	advance rollback end restart drain kill scale cordon uncordon stack start stop pause resume maintenance service doctor password`)

func TestEveryVerbThatReadsHasAFormForPrograms(t *testing.T) {
	reading := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.HasParent() && cmd.RunE != nil && !slices.Contains(acting, cmd.Name()) {
			reading++
			if cmd.Flags().Lookup("json") == nil {
				t.Errorf("%s reads and has no --json", cmd.CommandPath())
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit((&command{}).root())
	if reading < 8 { // status ps logs workers program reload version, config show
		t.Errorf("only %d verbs read", reading)
	}
}

func TestEveryExitCodeIsInTheDocumentation(t *testing.T) {
	var tables string
	for _, page := range []string{"serving", "admin"} {
		text, err := os.ReadFile("../../docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		_, table, _ := strings.Cut(string(text), "| exit code | |")
		table, _, _ = strings.Cut(table, "\n\n")
		tables += table
	}
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitNotReady, exitNoServer} {
		if !strings.Contains(tables, fmt.Sprintf("\n| %d |", code)) {
			t.Errorf("exit code %d is in no table of docs/serving.md and docs/admin.md", code)
		}
	}
}
