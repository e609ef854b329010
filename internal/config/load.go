package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Options say what a configuration is read from. Later sources win: defaults,
// File, Environ, Flags.
type Options struct {
	File    string   // guado.toml; empty: none
	Text    []byte   // what stands in File, where it is not written yet; nil: it is read
	Environ []string // "NAME=value", as of os.Environ; nil: no overrides, no $PORT
	Flags   []Flag
	Workdir string // what flags' paths are relative to; empty: the process's
	Dev     bool
}

// Flag is one key set on the command line.
type Flag struct {
	Name  string   // as it was typed: "--threads"
	Table string   // "server", or "app"/"mount" for the one element that the command line describes
	Keys  []string // below it: {"tls", "cert"}
	Value any      // string or []string
}

// Load reads, checks and completes a configuration. Its error is [Problems] when
// the configuration is at fault.
func Load(o Options) (*Config, error) {
	t, dir, err := o.read()
	if err != nil {
		return nil, err
	}
	d := decoder{tree: t}
	t.overlay(o.Environ, &d.problems)
	c := &Config{File: o.File, Dir: dir, Dev: o.Dev}
	d.table(reflect.ValueOf(c).Elem(), t.root, "", "")
	c.origins = t.origins
	err = c.Resolve(o.Environ)
	if ps, ok := AsProblems(err); ok || len(d.list) > 0 {
		d.merge(ps)
		return nil, d.err()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// read gives what file and flags set, and the folder that paths are relative to.
func (o Options) read() (t *tree, dir string, err error) {
	workdir := o.Workdir
	if workdir == "" {
		if workdir, err = os.Getwd(); err != nil {
			return nil, "", fmt.Errorf("working directory: %w", err)
		}
	}
	t, dir = newTree(), workdir
	if o.File != "" {
		file := o.File
		if !filepath.IsAbs(file) {
			file = filepath.Join(workdir, file)
		}
		data := o.Text
		if data == nil {
			if data, err = os.ReadFile(file); err != nil {
				return nil, "", fmt.Errorf("configuration file: %w", err)
			}
		}
		if t, err = parse(baseName(file, workdir), data); err != nil {
			return nil, "", err
		}
		dir = filepath.Dir(file)
	}
	for _, f := range o.Flags {
		t.flag(f, workdir)
	}
	t.nameApps()
	return t, dir, nil
}

// flag puts one flag into the tree. Paths on the command line are relative to the
// working directory, not to the file.
func (t *tree) flag(f Flag, workdir string) {
	var table map[string]any
	path := f.Table
	if f.Table == "app" || f.Table == "mount" {
		if t.root[f.Table] == nil {
			t.root[f.Table] = []map[string]any{{}}
		}
		table, path = t.elements(f.Table)[0], element(f.Table, 0)
	} else {
		if t.root[f.Table] == nil {
			t.root[f.Table] = map[string]any{}
		}
		table, _ = t.root[f.Table].(map[string]any)
	}
	if table == nil {
		return // the file says that it is no table, and the decoder says what is wrong
	}
	for _, key := range f.Keys {
		path = join(path, key)
	}
	value := f.absolute(workdir)
	// An error means that the file has something else in the way, as above.
	if err := set(table, f.Keys, value); err == nil {
		t.origins[path] = Origin{Kind: FromFlag, Name: f.Name}
	}
}

// absolute makes the paths that a flag names absolute.
func (f Flag) absolute(workdir string) any {
	if list, ok := f.Value.([]string); ok && f.Keys[0] == "listen" {
		list = slices.Clone(list)
		for i, text := range list {
			if l, err := ParseListen(text, DefaultPort); err == nil && l.Network == "unix" {
				list[i] = l.absolute(workdir).String()
			}
		}
		return list
	}
	text, ok := f.Value.(string)
	if !ok || text == "" || text == "-" || filepath.IsAbs(text) {
		return f.Value
	}
	top, _ := find(fieldsOf(reflect.TypeFor[Config]()), f.Table)
	t := top.typ
	for _, key := range f.Keys {
		if t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		field, _ := find(fieldsOf(t), key)
		if field.path() != "" {
			return filepath.Join(workdir, text)
		}
		if t = field.typ; t == nil {
			break
		}
	}
	return f.Value
}

// nameApps gives apps without a name that of their module, before the environment
// refers to it.
func (t *tree) nameApps() {
	for i, app := range t.elements("app") {
		if target, ok := app["target"].(string); ok && app["name"] == nil {
			app["name"] = moduleName(target)
			t.origins[element("app", i)+".name"] = t.origins[element("app", i)+".target"]
		}
	}
}

// moduleName is the first word of "shop.wsgi:application".
func moduleName(target string) string {
	module, _, _ := strings.Cut(target, ":")
	name, _, _ := strings.Cut(module, ".")
	return name
}

// Default is the configuration of a host that was told nothing. A program fills in
// what it wants and calls [Config.Resolve].
func Default() *Config {
	c := &Config{}
	fill(reflect.ValueOf(c).Elem())
	return c
}

// NewApp is an app with defaults.
func NewApp(name, target string) App {
	a := App{}
	fill(reflect.ValueOf(&a).Elem())
	a.Name, a.Target = name, target
	return a
}

// NewGroup is a group with defaults.
func NewGroup(name string) Group {
	g := Group{}
	fill(reflect.ValueOf(&g).Elem())
	g.Name = name
	return g
}

// NewMount is a mount with defaults; what answers there is yet to be set.
func NewMount(path string) Mount {
	m := Mount{}
	fill(reflect.ValueOf(&m).Elem())
	m.Path = path
	return m
}

func fill(v reflect.Value) {
	d := decoder{tree: newTree()}
	d.table(v, nil, "", "")
}

// Described reports whether an app is that of a file or of a program, and not of the
// command line.
func (c *Config) Described(app int) bool {
	return c.Origin(element("app", app)+".target").Kind != FromFlag
}

// Given reports whether the file or the command line sets a key, by its path.
func (c *Config) Given(path string) bool {
	kind := c.Origin(path).Kind
	return kind == FromFile || kind == FromFlag
}

// Origin tells where the value of a key came from, by its path: "server.listen",
// "app[0].threads".
func (c *Config) Origin(path string) Origin {
	if o, ok := c.origins[path]; ok {
		return o
	}
	return Origin{Kind: FromDefault}
}
