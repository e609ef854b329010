package main

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
)

func (c *command) pages() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "pages",
		Short: "List the pages that the server knows",
		Long:  "Lists the pages: the tabs of browsers that have a session of push (from phase 3 on).",
		Example: example(
			"guado pages", "whose they are, and what waits for them",
			"guado pages --json", "with all figures",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			var all struct {
				Pages []guado.PageStatus `json:"pages"`
			}
			answer, err := server.get(ctx, "pages", &all)
			if err != nil {
				return err
			}
			if r.asJSON {
				return c.sayJSON(answer)
			}
			if len(all.Pages) == 0 {
				return c.sayNone(ctx, server, "no pages")
			}
			return c.say(pagesText(all.Pages))
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

// pagesText is the list of pages for people.
func pagesText(pages []guado.PageStatus) string {
	var b strings.Builder
	t := newTable(&b, "PAGE", "USER", "CLASS", "PATH", "CLIENT", "IDLE", "SENT", "UNACKED", "RECEIVED", "TURNS")
	for i := range pages {
		p := &pages[i]
		client := "away"
		switch {
		case p.Connected:
			client = "connected"
		case p.Attached == 0:
			client = "not yet"
		}
		t.row(p.Page, cmp.Or(p.User, "(guest)"), cmp.Or(p.Class, "-"), cmp.Or(p.Path, "-"), client, age(time.Duration(p.IdleMillis)*time.Millisecond),
			p.Last, p.Tail, p.Got, p.Waiting+p.Running)
	}
	t.end()
	return b.String()
}

func (c *command) users() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "users",
		Short:   "List the users who are logged in",
		Long:    "Lists the users who are logged in, each with the browsers that he uses (from phase 3 on).",
		Example: example("guado users", "who was seen last first"),
		Args:    cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			var all struct {
				Users []guado.UserStatus `json:"users"`
			}
			answer, err := server.get(ctx, "users", &all)
			if err != nil {
				return err
			}
			if r.asJSON {
				return c.sayJSON(answer)
			}
			if len(all.Users) == 0 {
				return c.sayNone(ctx, server, "nobody is logged in")
			}
			return c.say(usersText(all.Users, time.Now()))
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

// usersText is the list of users for people.
func usersText(users []guado.UserStatus, now time.Time) string {
	var b strings.Builder
	t := newTable(&b, "USER", "FLAG", "BROWSERS", "SEEN")
	for _, u := range users {
		t.row(u.Name, cmp.Or(u.Flag, "-"), u.Connections, age(now.Sub(u.Seen)))
	}
	t.end()
	return b.String()
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
