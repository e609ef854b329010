package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/guado-server/guado/internal/config"
)

// defaultFile is read when neither --config nor an application is named.
const defaultFile = "guado.toml"

// flag is one option of `serve` and `dev`: which key of the configuration it sets.
// The values are strings; config reads them, as it does those of the environment,
// so that a wrong one gets the same message everywhere.
type flag struct {
	name, value, usage string
	table              string
	keys               []string
	list, boolean      bool
}

// serveFlags, in the order of the help.
var serveFlags = []flag{
	{name: "listen", value: "ADDR", list: true, table: "server", keys: []string{"listen"}, usage: "HOST:PORT, unix:PATH, fd://N, systemd[:NAME]; may be given again (default 127.0.0.1:$PORT or :8000)"},
	{name: "kind", value: "KIND", table: "app", keys: []string{"kind"}, usage: "auto, wsgi or asgi (default auto)"},
	{name: "dir", value: "DIR", table: "app", keys: []string{"dir"}, usage: "working directory and sys.path[0] of the application (default .)"},
	{name: "python", value: "PATH", table: "app", keys: []string{"python"}, usage: "interpreter, command or virtual environment (default .venv, $VIRTUAL_ENV, python3)"},
	{name: "threads", value: "N", table: "app", keys: []string{"threads"}, usage: "threads of a worker for WSGI (default 8)"},
	{name: "workers", value: "N", table: "app", keys: []string{"workers"}, usage: "worker processes (default 1)"},
	{name: "factory", boolean: true, table: "app", keys: []string{"factory"}, usage: "the target is a function that makes the application"},
	{name: "tls-cert", value: "FILE", table: "server", keys: []string{"tls", "cert"}, usage: "certificate (PEM)"},
	{name: "tls-key", value: "FILE", table: "server", keys: []string{"tls", "key"}, usage: "private key (PEM)"},
	{name: "trusted-proxy", value: "CIDR", list: true, table: "server", keys: []string{"trusted_proxies"}, usage: "believe X-Forwarded-* from here; may be given again"},
	{name: "root-path", value: "PATH", table: "mount", keys: []string{"root_path"}, usage: "prefix that a proxy in front has taken off"},
	{name: "env-file", value: "FILE", table: "app", keys: []string{"env_file"}, usage: "NAME=value lines for the application's environment"},
	{name: "access-log", value: "FILE", table: "server", keys: []string{"access_log"}, usage: "access log file, - for standard output (default none)"},
	{name: "log-level", value: "LEVEL", table: "server", keys: []string{"log_level"}, usage: "debug, info, warn or error (default info)"},
	{name: "request-timeout", value: "S", table: "server", keys: []string{"request_timeout"}, usage: "seconds to the head of an answer (default 0: none)"},
	{name: "graceful-timeout", value: "S", table: "server", keys: []string{"graceful_timeout"}, usage: "seconds a stop waits for requests under way (default 25)"},
}

// source says what a verb reads its configuration from.
type source struct {
	file text
	cmd  *cobra.Command
	set  *pflag.FlagSet
}

// text and texts are flag values whose kind in the help is a word of the table.
type (
	text struct{ value, kind string }
	// texts collects what is given several times.
	texts struct {
		values []string
		kind   string
	}
)

func (t *text) String() string      { return t.value }
func (t *text) Set(s string) error  { t.value = s; return nil }
func (t *text) Type() string        { return t.kind }
func (t *texts) String() string     { return strings.Join(t.values, " ") }
func (t *texts) Set(s string) error { t.values = append(t.values, s); return nil }
func (t *texts) Type() string       { return t.kind }

// addSource gives a command the flags of `serve`.
func addSource(cmd *cobra.Command) *source {
	s := &source{cmd: cmd, set: cmd.Flags()}
	s.set.SortFlags = false
	s.file.kind = "FILE"
	s.set.Var(&s.file, "config", "configuration file instead of an application (default guado.toml when it is there)")
	for _, f := range serveFlags {
		switch {
		case f.list:
			s.set.Var(&texts{kind: f.value}, f.name, f.usage)
		case f.boolean:
			s.set.Bool(f.name, false, f.usage)
		default:
			s.set.Var(&text{kind: f.value}, f.name, f.usage)
		}
	}
	complete(cmd)
	return s
}

// complete offers the words that a shell cannot know.
func complete(cmd *cobra.Command) {
	words := map[string][]string{
		"kind":      {"auto", "wsgi", "asgi"},
		"log-level": {"debug", "info", "warn", "error"},
	}
	for name, list := range words {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)))
	}
	must(cmd.MarkFlagDirname("dir"))
	must(cmd.MarkFlagFilename("config", "toml"))
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// must ends the program over a mistake in the tables above, which every test finds.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// load reads the configuration that the command line describes.
func (c *command) load(s *source, args []string, dev bool) (*config.Config, error) {
	o := config.Options{File: s.file.value, Environ: c.environ, Dev: dev}
	if err := s.choose(&o, args); err != nil {
		return nil, err
	}
	for _, f := range serveFlags {
		given := s.set.Lookup(f.name)
		if !given.Changed {
			continue
		}
		if o.File != "" && f.table != "server" {
			return nil, fmt.Errorf("--%s describes an application on the command line, but %s is read; set it there", f.name, o.File)
		}
		value := any(given.Value.String())
		if list, ok := given.Value.(*texts); ok {
			value = list.values
		}
		o.Flags = append(o.Flags, config.Flag{Name: "--" + f.name, Table: f.table, Keys: f.keys, Value: value})
	}
	for _, warning := range config.Misspelt(c.environ) {
		c.tell("guado: warning: %s\n", warning)
	}
	return config.Load(o)
}

// choose takes the application from the arguments, or the file.
func (s *source) choose(o *config.Options, args []string) error {
	switch {
	case len(args) > 1:
		return fmt.Errorf("one application is served from the command line, not %d (%s); write a %s for several", len(args), strings.Join(args, " "), defaultFile)
	case len(args) == 1 && s.file.value != "":
		return errors.New("name either an application or --config, not both")
	case len(args) == 1 && strings.HasSuffix(args[0], ".toml"):
		return fmt.Errorf("%s is a configuration file; write --config %s", args[0], args[0])
	case len(args) == 1:
		o.Flags = append(o.Flags, config.Flag{Name: "MODULE:ATTR", Table: "app", Keys: []string{"target"}, Value: args[0]})
		return nil
	case s.file.value == "":
		if _, err := os.Stat(defaultFile); err != nil {
			return fmt.Errorf("name an application (%s MODULE:ATTR) or a configuration (--config FILE); there is no %s here", s.cmd.CommandPath(), defaultFile)
		}
		o.File = defaultFile
	}
	if _, err := os.Stat(o.File); err != nil {
		return fmt.Errorf("--config %s: %w", filepath.Clean(o.File), errors.Unwrap(err))
	}
	return nil
}
