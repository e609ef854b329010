package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
)

// listing is a verb that lists items of one kind of the index, and ends some of them.
type listing[T any] struct {
	command         *command
	noun, key, none string
	short, long     string
	example, ends   []string // of the list, and of how some are ended
	text            func([]T, time.Time) string
}

func (l listing[T]) verb() *cobra.Command {
	c := l.command
	var r *remote
	var ended bool
	cmd := &cobra.Command{
		Use: l.key, Short: l.short, Long: l.long, Example: example(l.example...), Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			if ended {
				return l.ended(ctx, server, r.asJSON)
			}
			var all map[string]json.RawMessage
			answer, err := server.get(ctx, l.key, &all)
			if err != nil {
				return err
			}
			if r.asJSON {
				return c.sayJSON(answer)
			}
			var list []T
			if err := server.read(all[l.key], &list); err != nil {
				return err
			}
			if len(list) == 0 {
				return c.sayNone(ctx, server, l.none)
			}
			return c.say(l.text(list, time.Now()))
		}),
	}
	r = addRemote(cmd, true)
	cmd.Flags().BoolVar(&ended, "ended", false, "the last ones that have ended, the newest first, and why")
	cmd.AddCommand(l.end())
	return cmd
}

// ended lists those that are no more.
func (l listing[T]) ended(ctx context.Context, server *client, asJSON bool) error {
	c := l.command
	var all struct {
		Ended []guado.Ended `json:"ended"`
	}
	if _, err := server.get(ctx, "ended", &all); err != nil {
		return err
	}
	all.Ended = slices.DeleteFunc(all.Ended, func(e guado.Ended) bool { return e.Kind.String() != l.noun })
	if asJSON {
		answer, err := json.Marshal(all)
		if err != nil {
			return failed(err)
		}
		return c.sayJSON(answer)
	}
	if len(all.Ended) == 0 {
		return c.sayNone(ctx, server, "none has ended")
	}
	return c.say(endedText(all.Ended, time.Now()))
}

func (l listing[T]) end() *cobra.Command {
	c := l.command
	var r *remote
	cmd := &cobra.Command{
		Use:     "end " + strings.ToUpper(l.noun) + "...",
		Short:   "End some of them, with what belongs to them",
		Args:    cobra.MinimumNArgs(1),
		Example: example(l.ends...),
		RunE: c.asking(&r, func(ctx context.Context, server *client, ids []string) error {
			for _, id := range ids {
				if _, err := server.post(ctx, l.key+"/"+id+"/end", nil); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	r = addRemote(cmd, false)
	return cmd
}

// sayNone says that there is none, and why there cannot be one in phase 0.
func (c *command) sayNone(ctx context.Context, server *client, none string) error {
	var now guado.Status
	if _, err := server.get(ctx, "status", &now); err != nil {
		return err
	}
	if now.Identity == nil {
		none += ": the server knows of users and pages from server.phase = 3 on"
	}
	return c.say(none + "\n")
}
