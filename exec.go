package guado

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/python"
)

// Exec replaces this process by the command of a program, in its folder, with its
// environment and limits, as its user. c has been resolved. It returns only when that
// fails. log is told when the command cannot have the package guado, and may be nil.
func Exec(c *Config, p *Program, environ []string, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	who, env, err := surroundings(c, p, environ)
	if err != nil {
		return err
	}
	if with, err := withPackage(c, p, environ, env, log, who); err == nil {
		env = with
	} else { // another account than the server's may have no way to it, and need none
		log.Warn("import guado will not work in this command", "error", err.Error())
	}
	who.Path, who.Dir, who.Env = p.Command[0], p.Dir, env
	path, err := who.Find()
	if err != nil {
		return err
	}
	if err := os.Chdir(p.Dir); err != nil {
		return err
	}
	if err := who.Assume(); err != nil {
		return err
	}
	err = syscall.Exec(path, p.Command, env)
	if errors.Is(err, fs.ErrNotExist) {
		if _, errStat := os.Stat(path); errStat != nil { // else the interpreter of a script is what there is not
			return &child.NoCommandError{Command: path}
		}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// surroundings are as whom and with which environment a program runs.
func surroundings(c *Config, p *Program, environ []string) (who child.Child, env []string, err error) {
	if who, err = account(&p.Account); err != nil {
		return who, nil, err
	}
	if env, err = c.Environ(p, who.Identity.Environ(environ)); err != nil {
		return who, nil, err
	}
	in, err := runtime.Locate(environ, p.Python, p.Dir, c.Dir)
	switch {
	case err == nil:
		env = in.Environ(env)
	case p.Python != "":
		return who, nil, err
	}
	return who, env, nil
}

// FindCommand gives the file that a program executes, or an error when there is none. c
// has been resolved.
func FindCommand(c *Config, p *Program, environ []string) (string, error) {
	who, env, err := surroundings(c, p, environ)
	if err != nil {
		return "", err
	}
	who.Path, who.Dir, who.Env = p.Command[0], p.Dir, env
	path, err := who.Find()
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(p.Dir, path)
	}
	if _, err := os.Stat(path); err != nil {
		return "", &child.NoCommandError{Command: path}
	}
	return path, nil
}

// withPackage lets a program of a group import guado as the group's workers do: what it
// runs is often their code.
func withPackage(c *Config, p *Program, environ, env []string, log *slog.Logger, who child.Child) ([]string, error) {
	if p.Group == "" {
		return env, nil
	}
	cache, err := runtime.Open(runtime.Options{Dir: c.Server.CacheDir, Environ: environ, Files: python.Files, Log: log})
	if err != nil {
		return nil, err
	}
	dir, err := cache.Modules()
	if err == nil && who.Identity != nil {
		err = share(dir, cache.Dir())
	}
	return runtime.AddPath(env, dir), err
}
