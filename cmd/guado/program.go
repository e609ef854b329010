package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
)

func (c *command) program() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "program",
		Short: "List programs, or have them started, stopped, restarted",
		Example: example(
			"guado program", "what they do",
			"guado program restart scheduler", "end it in order and start it anew",
			"guado program stop scheduler", "until it is started again",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			return c.showPrograms(ctx, server, r.asJSON)
		}),
	}
	r = addRemote(cmd, true)
	cmd.AddCommand(
		c.programOrder("start", "Start programs and wait until they are ready", "a stopped or frozen one, or a scheduled one now"),
		c.programOrder("stop", "Stop programs and wait for their end", "it stays stopped until it is started"),
		c.programOrder("restart", "End programs in order and start them anew", "and wait until it is ready"),
	)
	return cmd
}

func (c *command) programOrder(verb, short, what string) *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     verb + " NAME...",
		Short:   short,
		Example: example("guado program "+verb+" daemon", what),
		Args:    cobra.MinimumNArgs(1),
		RunE: c.asking(&r, func(ctx context.Context, server *client, names []string) error {
			for _, name := range names {
				if _, err := server.post(ctx, "programs/"+url.PathEscape(name)+"/"+verb, nil); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	r = addRemote(cmd, false)
	return cmd
}

func (c *command) showPrograms(ctx context.Context, server *client, asJSON bool) error {
	var all struct {
		Programs []guado.ProgramStatus `json:"programs"`
	}
	answer, err := server.get(ctx, "programs", &all)
	if err != nil {
		return err
	}
	if asJSON {
		return c.sayJSON(answer)
	}
	return c.say(programsText(all.Programs, time.Now()))
}

// programsText is the list of programs for people.
func programsText(programs []guado.ProgramStatus, now time.Time) string {
	if len(programs) == 0 {
		return "no programs\n"
	}
	var b strings.Builder
	t := newTable(&b, "PROGRAM", "STATE", "FOR", "PID", "STARTS", "NEXT START", "LAST END")
	for i := range programs {
		p := &programs[i]
		next, last, state := "-", "-", string(p.State)
		if p.Next != nil {
			next = p.Next.Local().Format("Jan 2 15:04:05")
		}
		if p.Last != nil {
			last = p.Last.String()
		}
		if p.Problem != "" {
			last = p.Problem
		}
		if p.HeldBy != nil {
			state += " by " + strings.Join(p.HeldBy, ", ")
		}
		t.row(p.Name, state, age(now.Sub(p.Since)), dash(p.PID), p.Starts, next, last)
	}
	t.end()
	return b.String()
}
