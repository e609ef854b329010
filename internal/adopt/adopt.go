// Package adopt writes a guado.toml for what nginx, gunicorn and supervisord run now.
// Before it: cmd/guado. After it: config, which must take what it writes, and a person
// who reads it. Not here: any change of the old stack, which goes on as it is.
package adopt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Options say where the old configuration is. At least one source must be named.
type Options struct {
	Nginx       string // a file: nginx.conf, or one of sites-enabled
	Gunicorn    string // a command line, or the file of its -c
	Supervisord string // supervisord.conf, or one of conf.d
	Dir         string // folder in which the command is run and relative paths begin
	Environ     []string
	Python      string // runs a gunicorn configuration file; default python3
}

// Result is what was made of it.
type Result struct {
	Text    string   // guado.toml
	Missed  []string // what could not be carried over; Text says it, too
	Private bool     // Text has variables of an environment, which may be secrets
}

// Adopt reads the sources and writes one configuration.
func Adopt(ctx context.Context, o Options) (*Result, error) {
	if o.Nginx == "" && o.Gunicorn == "" && o.Supervisord == "" {
		return nil, errors.New("name what is to be taken over: --nginx FILE, --gunicorn CMD|FILE, --supervisord FILE")
	}
	d := newDraft(o)
	d.fronted = o.Nginx != ""
	if o.Gunicorn != "" {
		settings, err := readGunicorn(ctx, &o)
		if err != nil {
			return nil, fmt.Errorf("gunicorn: %w", err)
		}
		d.addGunicorn(settings)
	}
	if o.Supervisord != "" {
		programs, err := d.readSupervisord(o.Supervisord)
		if err != nil {
			return nil, fmt.Errorf("supervisord: %w", err)
		}
		d.addPrograms(ctx, &o, programs)
	}
	if o.Nginx != "" {
		http, err := readNginx(d.absolute(o.Nginx))
		if err != nil {
			return nil, fmt.Errorf("nginx: %w", err)
		}
		d.addNginx(http)
	}
	d.finish()
	return &Result{Text: d.render(), Missed: d.missed, Private: d.private}, nil
}

// source is where something was said: "nginx.conf:12".
func source(file string, line int) string {
	if line == 0 {
		return filepath.Base(file)
	}
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}

func (d *draft) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(d.dir, path)
}

// isFile tells a file from a command line.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// venvOf gives the virtual environment in whose bin a command lies; "" when there is none.
func venvOf(command string) string {
	if !filepath.IsAbs(command) {
		return ""
	}
	dir := filepath.Dir(filepath.Dir(command))
	if _, err := os.Stat(filepath.Join(dir, "pyvenv.cfg")); err == nil {
		return dir
	}
	return ""
}

// nameOf makes a name for a table of words that stand for something.
func nameOf(text string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, text)
	if name = strings.Trim(name, "-_"); name == "" {
		return "app"
	}
	return name
}
