package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	programs "github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/supervise"
)

func (c *command) status() *cobra.Command {
	var r *remote
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running server is",
		Long: "Show how the server is that runs with the configuration of this folder: what it serves,\n" +
			"its queues, its workers. The exit code is 1 when a part of it cannot serve.",
		Example: example(
			"guado status", "the server of this folder",
			"guado status --watch", "again and again, until Ctrl-C",
			"guado status --json", "for programs",
			"guado status --socket /run/guado/admin.sock", "any server",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			if !watch {
				return c.showStatus(ctx, server, r.asJSON)
			}
			return c.watch(ctx, every, func() error { return c.showStatus(ctx, server, r.asJSON) })
		}),
	}
	r = addRemote(cmd, true)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often, with --watch")
	return cmd
}

// watch shows again and again until ctx ends. What is wrong with the server meanwhile
// is part of what is watched.
func (c *command) watch(ctx context.Context, every time.Duration, show func() error) error {
	tick := time.NewTicker(max(every, 100*time.Millisecond))
	defer tick.Stop()
	for {
		if isTerminal(c.out) {
			const homeAndClear = "\x1b[H\x1b[2J"
			if err := c.say(homeAndClear); err != nil {
				return err
			}
		}
		err := show()
		var f *failure
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to end
		case errors.As(err, &f) && f.code == exitFailed:
			c.tell("%s\n", err)
		case err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *command) showStatus(ctx context.Context, server *client, asJSON bool) error {
	var st guado.Status
	answer, err := server.get(ctx, "status", &st)
	if err != nil {
		return err
	}
	if asJSON {
		err = c.sayJSON(answer)
	} else {
		err = c.say(statusText(&st, time.Now()))
	}
	if err != nil {
		return err
	}
	return failed(unwell(&st))
}

// unwell names what cannot serve; nil when everything can.
func unwell(st *guado.Status) error {
	var parts []string
	for i := range st.Groups {
		g := &st.Groups[i]
		if countReady(g.Workers) == 0 {
			parts = append(parts, fmt.Sprintf("group %s has no worker that is ready", g.Name))
		}
	}
	for i := range st.Programs {
		if p := &st.Programs[i]; p.State == programs.Frozen {
			parts = append(parts, fmt.Sprintf("program %s has failed too often (%s)", p.Name, p.Last))
		}
	}
	if st.State == guado.Stopping {
		parts = append(parts, "the server is stopping")
	}
	if parts == nil {
		return nil
	}
	return errors.New(strings.Join(parts, "; "))
}

func countReady(workers []supervise.WorkerStatus) (n int) {
	for _, w := range workers {
		if w.State == supervise.Serving {
			n++
		}
	}
	return n
}

// statusText is the status for people.
func statusText(st *guado.Status, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Guado %s is %s at %s\n", st.Version, st.State, strings.Join(st.Listen, ", "))
	facts := []string{fmt.Sprintf("pid %d", st.PID), "up " + age(now.Sub(st.Started)), count(st.Connections, "open socket")}
	if st.WebSockets.Opened > 0 {
		facts = append(facts, count(st.WebSockets.Open, "WebSocket"))
	}
	if st.Identity != nil {
		facts = append(facts, count(st.Identity.Users, "user"), count(st.Identity.Guests, "guest"))
	}
	if st.Config != "" {
		facts = append(facts, st.Config)
	}
	fmt.Fprintf(&b, "%s\n", strings.Join(facts, ", "))
	b.WriteString(gateText(&st.Gate, now))
	b.WriteString(reloadsText(&st.Reloads))
	if len(st.Groups) > 0 {
		b.WriteString("\n")
		t := newTable(&b, "GROUP", "READY", "WAITING", "IN FLIGHT", "DONE", "REFUSED", "LOST", "PYTHON")
		for i := range st.Groups {
			g := &st.Groups[i]
			flying := 0
			for _, w := range g.Queue.Workers {
				flying += w.WSGI + w.ASGI
			}
			t.row(g.Name, fmt.Sprintf("%d/%d", countReady(g.Workers), len(g.Workers)), g.Queue.Waiting, flying,
				g.Queue.Counters.Exchanges, g.Queue.Counters.Refused, g.Queue.Counters.Lost, g.Python)
		}
		t.end()
	}
	for i := range st.Groups {
		if g := &st.Groups[i]; g.Queue.Problem != "" {
			fmt.Fprintf(&b, "\ngroup %s cannot serve: %s\n", g.Name, g.Queue.Problem)
		}
		b.WriteString(frozenText(st.Groups[i].Workers))
	}
	b.WriteString(executorsText(st.Executors))
	if len(st.Programs) > 0 {
		b.WriteString("\n" + programsText(st.Programs, now))
	}
	if len(st.Mounts) > 0 {
		b.WriteString("\n")
		t := newTable(&b, "MOUNT", "KIND", "TARGET")
		for _, m := range st.Mounts {
			t.row(m.Host+m.Path, m.Kind, m.Target)
		}
		t.end()
	}
	return b.String()
}

// executorsText is what became of the tasks; their processes are a group's workers.
func executorsText(executors []guado.ExecutorStatus) string {
	if len(executors) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n")
	t := newTable(&b, "EXECUTOR", "TASKS", "DONE", "REFUSED", "EXPIRED", "LOST", "CANCELLED")
	for _, e := range executors {
		t.row(e.Name, e.Waiting, e.Done, e.Refused, e.Expired, e.Lost, e.Cancelled)
	}
	t.end()
	return b.String()
}

// frozenText shows why workers are not started again: what they have printed last.
func frozenText(workers []supervise.WorkerStatus) string {
	var b strings.Builder
	for i := range workers {
		w := &workers[i]
		if w.State != supervise.Frozen {
			continue
		}
		fmt.Fprintf(&b, "\n%s is frozen: %s. Its last lines:\n", w.Slot, w.Last)
		for _, line := range w.Output {
			fmt.Fprintf(&b, "  %s\n", line.Text)
		}
	}
	return b.String()
}

// gateText says that the server is closed; nothing when it is not.
func gateText(g *guado.GateStatus, now time.Time) string {
	text := ""
	switch {
	case g.Flag:
		text += "closed for maintenance: the flag file is there\n"
	case g.Maintenance:
		text += "closed for maintenance; guado maintenance off opens it\n"
	}
	if g.Paused {
		text += fmt.Sprintf("paused for %s, %s held; guado resume lets them go on\n", age(now.Sub(g.PausedAt)), count(g.Held, "request"))
	}
	return text
}

// table lays out columns for people.
type table struct{ w *tabwriter.Writer }

func newTable(b *strings.Builder, header ...string) *table {
	t := &table{tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)}
	_, _ = fmt.Fprintln(t.w, strings.Join(header, "\t")) // a builder takes everything
	return t
}

func (t *table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			_, _ = fmt.Fprint(t.w, "\t")
		}
		_, _ = fmt.Fprint(t.w, cell)
	}
	_, _ = fmt.Fprintln(t.w)
}

func (t *table) end() { _ = t.w.Flush() }

// age spells a time span with its two largest units: "3d 4h", "2m 5s", "12s".
func age(d time.Duration) string {
	units := []struct {
		name string
		span time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units[:len(units)-1] {
		if d >= u.span {
			next := units[i+1]
			return fmt.Sprintf("%d%s %d%s", d/u.span, u.name, d%u.span/next.span, next.name)
		}
	}
	return fmt.Sprintf("%ds", max(d, 0)/time.Second)
}
