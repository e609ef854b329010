package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
)

func (c *command) ps() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List the processes of the running server",
		Example: example("guado ps", "workers and programs of the server of this folder"),
		Args:    cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			return c.showProcesses(ctx, server, r.asJSON)
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

// showProcesses lists what the server runs: workers, then programs where there are any.
func (c *command) showProcesses(ctx context.Context, server *client, asJSON bool) error {
	var workers struct {
		Workers []guado.Worker `json:"workers"`
	}
	var programs struct {
		Programs []guado.ProgramStatus `json:"programs"`
	}
	if _, err := server.get(ctx, "workers", &workers); err != nil {
		return err
	}
	if _, err := server.get(ctx, "programs", &programs); err != nil {
		return err
	}
	if asJSON {
		both, err := json.Marshal(map[string]any{"workers": workers.Workers, "programs": programs.Programs})
		if err != nil {
			return failed(err)
		}
		return c.sayJSON(both)
	}
	text := workersText(workers.Workers, time.Now())
	if len(programs.Programs) > 0 {
		text += "\n" + programsText(programs.Programs, time.Now())
	}
	return c.say(text)
}

func (c *command) showWorkers(ctx context.Context, server *client, asJSON bool) error {
	var all struct {
		Workers []guado.Worker `json:"workers"`
	}
	answer, err := server.get(ctx, "workers", &all)
	if err != nil {
		return err
	}
	if asJSON {
		return c.sayJSON(answer)
	}
	return c.say(workersText(all.Workers, time.Now()))
}

// workersText is the list of workers for people.
func workersText(workers []guado.Worker, now time.Time) string {
	if len(workers) == 0 {
		return "no workers\n"
	}
	var b strings.Builder
	t := newTable(&b, "SLOT", "GROUP", "STATE", "FOR", "PID", "STARTS", "IN FLIGHT", "DONE", "LAST END")
	for i := range workers {
		w := &workers[i]
		last, _, _ := strings.Cut(w.Last, "\n")
		t.row(w.Slot, w.Group, w.State, age(now.Sub(w.Since)), dash(w.PID), w.Starts, w.InFlight, w.Done, last)
	}
	t.end()
	return b.String()
}

// dash stands for a number that there is none of.
func dash(n int) any {
	if n == 0 {
		return "-"
	}
	return n
}
