package main

import (
	"github.com/spf13/cobra"
)

func (c *command) workers() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List workers, or have them restarted",
		Example: example(
			"guado workers", "what they do",
			"guado workers restart", "all of them, in order",
		),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := c.connect(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.showWorkers(cmd.Context(), server, r.asJSON)
		},
	}
	r = addRemote(cmd, true)
	cmd.AddCommand(c.workersRestart())
	return cmd
}

func (c *command) workersRestart() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "restart",
		Short:   "End each worker in order and start it anew",
		Example: example("guado workers restart", "all of them; requests wait"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := c.connect(cmd.Context(), r)
			if err != nil {
				return err
			}
			_, err = server.post(cmd.Context(), "workers/restart", nil)
			return err
		},
	}
	r = addRemote(cmd, false)
	return cmd
}
