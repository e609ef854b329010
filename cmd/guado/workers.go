package main

import (
	"context"
	"github.com/spf13/cobra"
)

func (c *command) workers() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List workers, or have them restarted, drained, looked into",
		Example: example(
			"guado workers", "what they do",
			"guado workers restart", "all of them, each when its successor serves",
			"guado workers scale shop 4", "four of them, until the next reload",
			"guado workers stack p01", "where its threads are",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			return c.showWorkers(ctx, server, r.asJSON)
		}),
	}
	r = addRemote(cmd, true)
	cmd.AddCommand(
		c.workersRestart(),
		c.workersScale(),
		c.workerOrder("drain", "End workers in order; their slots stay empty until they are restarted", "it finishes what it has"),
		c.workerOrder("kill", "Kill workers at once; the next ones start", "what it has under way is lost"),
		c.workerOrder("cordon", "Keep new requests from workers", "it goes on with what it has"),
		c.workerOrder("uncordon", "Let cordoned workers have requests again", "as before"),
		c.workerOrder("stack", "Print where the threads of workers are", "also when it hangs"),
	)
	return cmd
}
