package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/supervise"
)

// banner says what is served where, by what, once it can be asked for: lines for
// people, or a record for programs.
func (c *command) banner(cfg *config.Config, status *guado.Status, log *slog.Logger) {
	if cfg.Server.LogFormat == "json" {
		log.Info("serving", "version", status.Version, "listen", status.Listen, "status", status)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Guado %s serves %s\n", status.Version, strings.Join(status.Listen, ", "))
	for i := range cfg.Mounts {
		m := &cfg.Mounts[i]
		fmt.Fprintf(&b, "  %-16s %s\n", m.Host+m.Path, c.describe(cfg, m, status))
	}
	if cfg.Dev {
		b.WriteString("  restarting on changes; Ctrl-C stops\n")
	}
	c.tell("%s", b.String())
}

// describe is what answers at a mount, in a line.
func (c *command) describe(cfg *config.Config, m *config.Mount, status *guado.Status) string {
	switch m.Kind() {
	case config.MountStatic:
		return "folder " + m.Static
	case config.MountRedirect:
		return fmt.Sprintf("redirect to %s (%d)", m.Redirect, m.Code)
	case config.MountUpstream:
		return "upstream " + m.Upstream
	case config.MountApp:
		return describeApp(cfg, cfg.App(m.App), status)
	}
	return m.Kind()
}

func describeApp(cfg *config.Config, a *config.App, status *guado.Status) string {
	g := cfg.Group(a.Group)
	kind, ready, python := a.Kind, 0, ""
	for i := range status.Groups {
		s := &status.Groups[i]
		if s.Name != a.Group {
			continue
		}
		python = s.Python
		for _, w := range s.Workers {
			if w.State == supervise.Serving {
				ready++
			}
		}
		for _, known := range s.Queue.Apps {
			if known.Name == a.Name && known.Kind != "" {
				kind = known.Kind
			}
		}
	}
	workers := count(g.Workers, "worker")
	if ready == 0 { // with several, the first one is enough to serve
		workers += " (not ready)"
	}
	if kind == "wsgi" {
		workers += " × " + count(g.Threads, "thread")
	}
	what := a.Target
	if kind != "auto" { // it is known once a worker has imported the application
		what = strings.ToUpper(kind) + " " + what
	}
	return fmt.Sprintf("%s, %s, %s", what, workers, python)
}
