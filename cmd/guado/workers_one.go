package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/supervise"
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
	switch {
	case err != nil:
		return err
	case verb == "drain", verb == "cordon":
		return c.warnOfTheLast(ctx, server, slot, verb)
	case verb != "stack":
		return nil
	}
	var answer struct {
		Stacks string `json:"stacks"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return failed(fmt.Errorf("the server's answer: %w", err))
	}
	return c.say(answer.Stacks)
}

// warnOfTheLast says what becomes of requests when their group has nobody left.
func (c *command) warnOfTheLast(ctx context.Context, server *client, slot, verb string) error {
	var all struct {
		Workers []guado.Worker `json:"workers"`
	}
	if _, err := server.get(ctx, "workers", &all); err != nil {
		return err
	}
	group := ""
	for _, w := range all.Workers {
		if w.Slot == slot {
			group = w.Group
		}
	}
	for _, w := range all.Workers {
		if w.Group == group && w.Slot != slot && w.State == supervise.Serving && !w.Cordoned {
			return nil
		}
	}
	back := "restart"
	if verb == "cordon" {
		back = "uncordon"
	}
	c.tell("guado: %s was the last worker of %s that took requests: they wait now, for at most queue_wait; end that with guado workers %s %s\n", slot, group, back, slot)
	return nil
}

func (c *command) workersRestart() *cobra.Command {
	var r *remote
	noWait := false
	cmd := &cobra.Command{
		Use:   "restart [SLOT...]",
		Short: "Replace workers, each when its successor serves",
		Long: "Replace workers, each when its successor serves, one of a group at a time, and wait for\n" +
			"it. Where a successor cannot boot, the old worker goes on, and so do those of its group\n" +
			"whose turn had not come; the exit code is 1.",
		Example: example(
			"guado workers restart", "all of them, with new code",
			"guado workers restart p01 p02", "these",
		),
		RunE: c.asking(&r, func(ctx context.Context, server *client, slots []string) error {
			var err error
			order := map[string]bool{"wait": !noWait}
			if len(slots) == 0 {
				_, err = server.post(ctx, "workers/restart", order)
			}
			for _, slot := range slots {
				if err == nil {
					_, err = server.post(ctx, "workers/"+url.PathEscape(slot)+"/restart", order)
				}
			}
			return err
		}),
	}
	r = addRemote(cmd, false)
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "give the order and return at once; the log tells what comes of it")
	return cmd
}

func (c *command) workersScale() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "scale GROUP NUMBER",
		Short: "Give a group or an executor another number of workers, until the next reload",
		Long: "Give a group, an app's own group or an executor another number of workers, as a changed\n" +
			"file and guado reload would, and wait until they serve. A reload goes by the file again.",
		Example: example("guado workers scale shop 4", "for the hours of a sale"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := strconv.Atoi(args[1])
			if err != nil || number < 1 {
				return fmt.Errorf("%q is no number of workers; there must be at least one", args[1])
			}
			return c.asking(&r, func(ctx context.Context, server *client, args []string) error {
				answer, err := server.post(ctx, "groups/"+url.PathEscape(args[0])+"/scale", map[string]int{"workers": number})
				if err != nil {
					return notReloaded(err)
				}
				if r.asJSON {
					return c.sayJSON(answer)
				}
				var done guado.Reload
				if err := server.read(answer, &done); err != nil {
					return err
				}
				if len(done.Changes) == 0 {
					return c.say(fmt.Sprintf("%s has %d already\n", args[0], number))
				}
				return c.say(reloadText(&done))
			})(cmd, args)
		},
	}
	r = addRemote(cmd, true)
	return cmd
}
