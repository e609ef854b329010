package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/service"
)

func (c *command) serve() *cobra.Command {
	var s *source
	cmd := &cobra.Command{
		Use:   "serve [MODULE:ATTR]",
		Short: "Serve an application, or what a configuration file says",
		Long: "Serve an application named on the command line, or what guado.toml says.\n\n" +
			"SIGTERM and SIGINT drain: no new connections, requests under way are finished for at\n" +
			"most the graceful timeout. A second signal cuts them at once. SIGHUP reads the\n" +
			"configuration and certificates again, as `guado reload` does, and opens log files anew.",
		Example: example(
			"guado serve shop.wsgi:application", "Django, at http://127.0.0.1:8000",
			"guado serve --factory shop:create_app", "Flask with a factory",
			"guado serve --listen unix:run/api.sock api:app", "behind another server",
			"guado serve --config guado.toml", "several applications",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load(s, args, false)
			if err != nil {
				return err
			}
			return c.run(cmd.Context(), cfg, func() (*config.Config, error) { return c.load(s, args, false) }, nil)
		},
	}
	s = addSource(cmd)
	return cmd
}

// beside is what runs as long as the server does, until ctx ends.
type beside func(ctx context.Context, server *guado.Server) error

// run serves until a signal. again reads the configuration anew; extra may be nil.
func (c *command) run(ctx context.Context, cfg *config.Config, again func() (*config.Config, error), extra beside) error {
	shareProcessors(cfg, c.environ)
	log, level := newLogger(c.err, &cfg.Server)
	server := guado.NewResolved(cfg)
	server.Load, server.Level = again, level
	server.Log, server.Stdout, server.Stderr, server.Environ = log, c.out, c.err, c.environ
	server.Ready = func(status guado.Status) { c.banner(cfg, &status, log) }

	var err error
	if server.NotifySocket, server.Watchdog, err = service.FromEnvironment(); err != nil {
		return failed(err)
	}

	drain, release := c.signals(ctx, server, log)
	defer release()
	if extra == nil {
		return verdict(server.Run(drain))
	}
	done := make(chan error, 1)
	go func() { done <- extra(drain, server) }()
	err = server.Run(drain)
	release()
	return verdict(errors.Join(err, <-done))
}

// verdict gives the error of a run its exit code.
func verdict(err error) error {
	var boot *guado.BootError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, guado.ErrNeverReady) && errors.As(err, &boot) && boot.App != "":
		// The log has told why, with traceback and hint.
		return &failure{code: exitNotReady, err: fmt.Errorf("%s could not be started", boot.App)}
	case errors.Is(err, guado.ErrNeverReady):
		return &failure{code: exitNotReady, err: guado.ErrNeverReady}
	}
	if _, ok := config.AsProblems(err); ok {
		return err
	}
	return failed(err)
}

// echo is how long a signal that comes again counts as the same one.
const echo = time.Second

// signals makes SIGTERM and SIGINT end the context it gives; a second one cuts the
// server's patience, and SIGHUP reloads. release may be called twice.
func (c *command) signals(ctx context.Context, server *guado.Server, log *slog.Logger) (drain context.Context, release func()) {
	drain, stop := context.WithCancel(ctx)
	var stopping os.Signal
	var since time.Time
	var reloads sync.WaitGroup
	end := listen(func(s os.Signal) {
		switch {
		case isHangup(s):
			reloads.Go(func() { hangup(drain, server, log) }) // it may take long, and a signal to stop ends it
		case s == stopping && time.Since(since) < echo:
			// Whoever signals the process and then its group sends one signal twice.
		case stopping != nil:
			log.Warn("second signal: cutting what is under way", "signal", s.String())
			server.Cut()
		default:
			log.Debug("signal", "signal", s.String())
			stopping, since = s, time.Now()
			stop()
		}
	})
	return drain, func() {
		stop()
		end()
		reloads.Wait()
	}
}

// hangup reloads and tells what came of it: there is nobody else to tell.
func hangup(ctx context.Context, server *guado.Server, log *slog.Logger) {
	answer, err := server.Reload(ctx)
	if err != nil {
		log.Error("the configuration was not reloaded; the server goes on as it was", "error", err.Error())
		return
	}
	log.Info("reloaded: certificates and log files are opened anew", "changes", len(answer.Changes), "replaced", answer.Replaced)
	for _, c := range answer.Changes {
		log.Info("changed", "key", c.Key, "class", c.Class, "old", c.Old, "new", c.New)
	}
}
