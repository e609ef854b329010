package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
)

// workerOrder is a verb that is sent to workers by their slots.
func (c *command) workerOrder(verb, short, what string) *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     verb + " SLOT...",
		Short:   short,
		Example: example("guado workers "+verb+" p01", what),
		Args:    cobra.MinimumNArgs(1),
		RunE: c.asking(&r, func(ctx context.Context, server *client, slots []string) error {
			for _, slot := range slots {
				if err := c.orderWorker(ctx, server, slot, verb); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	r = addRemote(cmd, false)
	return cmd
}

func (c *command) orderWorker(ctx context.Context, server *client, slot, verb string) error {
	text, err := server.post(ctx, "workers/"+url.PathEscape(slot)+"/"+verb, nil)
	if err != nil || verb != "stack" {
		return err
	}
	var answer struct {
		Stacks string `json:"stacks"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return failed(fmt.Errorf("the server's answer: %w", err))
	}
	return c.say(answer.Stacks)
}

func (c *command) workersRestart() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "restart [SLOT...]",
		Short: "Replace workers, each when its successor serves",
		Example: example(
			"guado workers restart", "all of them, without waiting",
			"guado workers restart p01 p02", "these, until they serve",
		),
		RunE: c.asking(&r, func(ctx context.Context, server *client, slots []string) error {
			var err error
			if len(slots) == 0 {
				_, err = server.post(ctx, "workers/restart", nil)
			}
			for _, slot := range slots {
				if err == nil {
					err = c.orderWorker(ctx, server, slot, "restart")
				}
			}
			return err
		}),
	}
	r = addRemote(cmd, false)
	return cmd
}
