package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/watch"
)

func (c *command) dev() *cobra.Command {
	var s *source
	more := &texts{kind: "DIR"}
	cmd := &cobra.Command{
		Use:   "dev [MODULE:ATTR]",
		Short: "Serve for development: restart on changes, show tracebacks in the browser",
		Long: "Serve as `guado serve` does, with one worker to each group. A change of a file restarts\n" +
			"the workers of the groups whose folders hold it while the socket stays open, one of the\n" +
			"configuration is taken as by `guado reload`. An exception that reaches the server is shown\n" +
			"in the browser; Flask and FastAPI answer most themselves, unless they are told not to.\n" +
			"No deadline ends a request, and a lone worker has the terminal, so breakpoint() works; a\n" +
			"restart or a stop waits two seconds for requests under way.\n\n" +
			"Never use it where others can reach it: tracebacks tell a lot.",
		Example: example(
			"guado dev shop.wsgi:application", "a Django site",
			"guado dev --watch ../lib api:app", "restart when a library beside it changes, too",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load(s, args, true)
			if err != nil {
				return err
			}
			defer keepTerminal()()
			again := func() (*config.Config, error) { return c.load(s, args, true) }
			return c.run(cmd.Context(), cfg, again, c.restarter(cfg, again, more.values))
		},
	}
	s = addSource(cmd)
	for _, name := range []string{"workers", "request-timeout", "graceful-timeout"} {
		must(cmd.Flags().MarkHidden(name)) // taken, so that a command line of serve will do, and of no effect
	}
	cmd.Flags().Var(more, "watch", "folder whose files restart the workers, too; may be given again")
	must(cmd.MarkFlagDirname("watch"))
	return cmd
}

// keepTerminal gives a function that puts the terminal back as it is now: a debugger
// that was ended in the middle of a line leaves it without echo.
func keepTerminal() func() {
	fd := int(os.Stdin.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return func() {} // no terminal
	}
	return func() { _ = term.Restore(fd, state) } // it may be gone by then
}

// restarter restarts the workers when the application's files change, and reloads when
// the configuration does.
func (c *command) restarter(cfg *config.Config, again func() (*config.Config, error), more []string) beside {
	return func(ctx context.Context, server *guado.Server) (err error) {
		w, err := watch.New(watched(cfg, more), server.Log)
		if err != nil {
			// The server goes on without it: that is better than none.
			server.Log.Error("changes are not noticed", "error", err)
			return nil
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		d := development{cfg: cfg, again: again, more: more, server: server, watcher: w}
		d.follow(cfg.File)
		for {
			changed, err := w.Next(ctx)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to stop
			}
			if err != nil {
				return err
			}
			d.react(ctx, changed)
		}
	}
}

// development is what `guado dev` does about changes.
type development struct {
	cfg     *config.Config // as it serves
	again   func() (*config.Config, error)
	more    []string
	server  *guado.Server
	watcher *watch.Watcher
	file    string // the configuration's; empty: there is none
}

// follow has changes of the configuration's file noticed.
func (d *development) follow(file string) {
	if file == "" {
		return
	}
	file, err := filepath.Abs(file)
	if err == nil {
		err = d.watcher.Beside(file)
	}
	if err != nil {
		d.server.Log.Warn("changes of the configuration are not noticed", "error", err)
		return
	}
	d.file = file
}

// react does what changed files ask for.
func (d *development) react(ctx context.Context, changed []string) {
	if d.file != "" && slices.Contains(changed, d.file) {
		d.reload(ctx)
		changed = slices.DeleteFunc(changed, func(file string) bool { return file == d.file })
		if len(changed) == 0 {
			return
		}
	}
	groups, all := d.concerned(changed)
	switch {
	case all:
		d.server.Log.Info("restarting", "changed", short(changed, d.cfg.Dir))
		d.server.Restart()
	case len(groups) > 0:
		d.server.Log.Info("restarting", "changed", short(changed, d.cfg.Dir), "groups", strings.Join(groups, ", "))
		d.server.RestartGroups(groups...)
	}
}

// reload takes a changed configuration. One that is wrong, or does not work, changes
// nothing but the log.
func (d *development) reload(ctx context.Context) {
	log := d.server.Log
	cfg, err := d.again()
	if err != nil {
		log.Error("the configuration is wrong; the server goes on as it was", "error", err.Error())
		return
	}
	done, err := d.server.Reload(ctx)
	if err != nil {
		log.Error("the configuration does not work; the server goes on as it was", "error", err.Error())
		return
	}
	d.cfg = cfg
	for _, dir := range watched(cfg, d.more) {
		if err := d.watcher.Add(dir); err != nil {
			log.Warn("changes are not noticed", "dir", dir, "error", err)
		}
	}
	var keys, late []string
	for _, c := range done.Changes {
		if keys = append(keys, c.Key); c.Class == config.Restart {
			late = append(late, c.Key)
		}
	}
	if len(keys) > 0 {
		log.Info("the configuration was reloaded", "keys", strings.Join(keys, ", "))
	}
	if len(late) > 0 {
		log.Warn("these keys need a new start of guado dev", "keys", strings.Join(late, ", "))
	}
}

// concerned names the groups whose folders hold one of the files. all: every group, since
// nobody knows what changed, or it is in a folder of --watch.
func (d *development) concerned(files []string) (groups []string, all bool) {
	if len(files) == 0 {
		return nil, true
	}
	for _, file := range files {
		for _, dir := range d.more {
			if abs, err := filepath.Abs(dir); err != nil || inside(file, dir) || inside(file, abs) {
				return nil, true
			}
		}
		for i := range d.cfg.Groups {
			if g := &d.cfg.Groups[i]; inside(file, g.Dir) && !slices.Contains(groups, g.Name) {
				groups = append(groups, g.Name)
			}
		}
	}
	return groups, len(groups) == len(d.cfg.Groups)
}

// inside reports whether a path is a folder or in it.
func inside(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// watched are the folders of the groups, without those inside others.
func watched(cfg *config.Config, more []string) []string {
	dirs := slices.Clone(more)
	for i := range cfg.Groups {
		dirs = append(dirs, cfg.Groups[i].Dir)
	}
	slices.Sort(dirs)
	var top []string
	for _, dir := range dirs {
		if !slices.ContainsFunc(top, func(outer string) bool { return inside(dir, outer) }) {
			top = append(top, dir)
		}
	}
	return top
}

// short names the changed files for the log.
func short(files []string, dir string) string {
	const most = 3
	names := make([]string, 0, most+1)
	for i, file := range files {
		if i == most {
			names = append(names, "…")
			break
		}
		if rel, err := filepath.Rel(dir, file); err == nil && !strings.HasPrefix(rel, "..") {
			file = rel
		}
		names = append(names, file)
	}
	return strings.Join(names, ", ")
}
