package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
)

func (c *command) reload() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running server take a changed configuration",
		Long: "Have the running server read its configuration again and put it in place: all of it, or\n" +
			"nothing when a part is wrong or a worker cannot boot with it. It says for each changed key\n" +
			"whether it is live, whether workers or programs were replaced for it, or whether it needs\n" +
			"a restart, and returns when what was replaced has ended. No request is lost.",
		Example: example(
			"guado reload", "after guado.toml was changed",
			"guado check && guado reload", "the same, and the second part is not even tried",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			answer, err := server.post(ctx, "reload", nil)
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
			return c.say(reloadText(&done))
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

// notReloaded adds what the server knows to its refusal.
func notReloaded(err error) error {
	var told *refused
	if !errors.As(err, &told) || told.Detail == nil {
		return err
	}
	var detail struct {
		Problems        []string
		Traceback, Hint string
	}
	if json.Unmarshal(told.Detail, &detail) != nil {
		return err
	}
	text := told.Message
	for _, p := range detail.Problems {
		text += "\n  " + p
	}
	if detail.Traceback != "" {
		text += "\n" + strings.TrimRight(detail.Traceback, "\n")
	}
	if detail.Hint != "" {
		text += "\nhint: " + detail.Hint
	}
	code := exitFailed
	if told.Code == "bad_config" {
		code = exitUsage
	}
	return &failure{code: code, err: errors.New(text)}
}

// reloadText is what came of a reload, for people.
func reloadText(r *guado.Reload) string {
	if len(r.Changes) == 0 {
		return "nothing has changed; certificates were read again and log files opened anew\n"
	}
	var b strings.Builder
	t := newTable(&b, "KEY", "EFFECT", "BEFORE", "NOW")
	for _, c := range r.Changes {
		t.row(c.Key, c.Class, dashed(c.Old), dashed(c.New))
	}
	t.end()
	if len(r.Replaced) > 0 {
		fmt.Fprintf(&b, "\nreplaced the workers of %s in %.1f s\n", strings.Join(r.Replaced, ", "), r.Seconds)
	}
	if slices.ContainsFunc(r.Changes, func(c config.Change) bool { return c.Class == config.Restart }) {
		b.WriteString("\nwhat needs a restart stays as it was until the server is started anew\n")
	}
	return b.String()
}

func dashed(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// reloadsText says what an operator must know of reloads, if anything.
func reloadsText(r *guado.ReloadStatus) string {
	var b strings.Builder
	if r.Error != "" {
		first, _, _ := strings.Cut(r.Error, "\n")
		fmt.Fprintf(&b, "the last reload failed: %s\n", first)
	}
	if len(r.Pending) > 0 {
		fmt.Fprintf(&b, "needs a restart: %s\n", strings.Join(r.Pending, ", "))
	}
	return b.String()
}
