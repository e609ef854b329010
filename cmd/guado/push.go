package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// pushFlags say to whom something is pushed, and how.
type pushFlags struct {
	page, user, connection text
	all, snapshot, ack     bool
	timeout                time.Duration
}

// sent is what became of a push.
type sent struct {
	Pages        int  `json:"pages"`
	Connected    int  `json:"connected"`
	Acknowledged *int `json:"acknowledged"`
}

func (c *command) push() *cobra.Command {
	var r *remote
	f := pushFlags{page: text{kind: "ID"}, user: text{kind: "NAME"}, connection: text{kind: "ID"}}
	cmd := &cobra.Command{
		Use:   "push (--page ID | --user NAME | --connection ID | --all) JSON",
		Short: "Send something to pages",
		Long: "Send JSON to the clients of pages; \"-\" reads it from standard input. Pages whose client is\n" +
			"away get it when that comes back in time. With --ack the exit code is 1 when a client has\n" +
			"not acknowledged it in time.",
		Example: example(
			`guado push --user anna '{"tea": "ready"}'`, "to all her tabs",
			`guado push --all --ack '"back in 5 minutes"'`, "and wait until they have it",
		),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("what is sent is one argument of JSON, not %d: guado push --all '{\"tea\": \"ready\"}'", len(args))
			}
			return nil
		},
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			body, err := f.body(args[0])
			if err != nil {
				return err
			}
			return c.pushTo(ctx, server, body, r.asJSON)
		}),
	}
	r = addRemote(cmd, true)
	cmd.Flags().Var(&f.page, "page", "to this page")
	cmd.Flags().Var(&f.user, "user", "to all pages of this user")
	cmd.Flags().Var(&f.connection, "connection", "to all pages of this connection (one browser)")
	cmd.Flags().BoolVar(&f.all, "all", false, "to all pages")
	cmd.Flags().BoolVar(&f.snapshot, "snapshot", false, "in place of all that was sent before")
	cmd.Flags().BoolVar(&f.ack, "ack", false, "wait until the clients have acknowledged it")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how long at most, with --ack")
	cmd.MarkFlagsOneRequired("page", "user", "connection", "all")
	cmd.MarkFlagsMutuallyExclusive("page", "user", "connection", "all")
	return cmd
}

// body is what the server is asked.
func (f *pushFlags) body(word string) (map[string]any, error) {
	data, err := jsonOf(word)
	if err != nil {
		return nil, err
	}
	to := map[string]any{}
	for name, value := range map[string]string{"page": f.page.value, "user": f.user.value, "connection": f.connection.value} {
		if value != "" {
			to[name] = value
		}
	}
	if f.all {
		to["all"] = true
	}
	if len(to) != 1 {
		return nil, errors.New("say to whom: --page ID, --user NAME, --connection ID or --all")
	}
	body := map[string]any{"to": to, "data": data}
	if f.snapshot {
		body["snapshot"] = true
	}
	if f.ack {
		body["ack"], body["timeout_ms"] = true, f.timeout.Milliseconds()
	}
	return body, nil
}

func (c *command) pushTo(ctx context.Context, server *client, body map[string]any, asJSON bool) error {
	answer, err := server.post(ctx, "push", body)
	if err != nil {
		return err
	}
	var st sent
	if err := server.read(answer, &st); err != nil {
		return err
	}
	if asJSON {
		err = c.sayJSON(answer)
	} else {
		err = c.say(st.text())
	}
	if err == nil && st.Acknowledged != nil && *st.Acknowledged < st.Pages {
		return &failure{code: exitFailed, said: true, err: errors.New("not acknowledged in time")}
	}
	return err
}

func (s *sent) text() string {
	text := fmt.Sprintf("sent to %s, %d connected", count(s.Pages, "page"), s.Connected)
	if s.Acknowledged != nil {
		text += fmt.Sprintf(", acknowledged by %d", *s.Acknowledged)
	}
	return text + "\n"
}

func (c *command) publish() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "publish TOPIC [JSON]",
		Short: "Publish an event",
		Long: "Publish an event to the pages and the functions of applications that have subscribed its\n" +
			"topic: words separated by dots. \"-\" reads the data from standard input; without data it\n" +
			"is null.",
		Example: example(
			`guado publish invoice.paid '{"number": 7}'`, "an event of an application",
			`guado publish user.anna.notify '"your report is ready"'`, "to all pages of a user",
			`guado publish system.broadcast '"we restart at noon"'`, "to all pages",
		),
		Args: cobra.RangeArgs(1, 2),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			body := map[string]any{"topic": args[0]}
			if len(args) > 1 {
				data, err := jsonOf(args[1])
				if err != nil {
					return err
				}
				body["data"] = data
			}
			answer, err := server.post(ctx, "publish", body)
			if err != nil {
				return err
			}
			if r.asJSON {
				return c.sayJSON(answer)
			}
			var reached struct {
				Pages   int `json:"pages"`
				Workers int `json:"workers"`
			}
			if err := server.read(answer, &reached); err != nil {
				return err
			}
			return c.say(fmt.Sprintf("published to %s and %s\n", count(reached.Pages, "page"), count(reached.Workers, "application")))
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

// jsonOf is the JSON of an argument, or of standard input.
func jsonOf(word string) (json.RawMessage, error) {
	data := []byte(word)
	if word == "-" {
		var err error
		if data, err = io.ReadAll(os.Stdin); err != nil {
			return nil, failed(fmt.Errorf("standard input: %w", err))
		}
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("%.60q is no JSON; a text stands in double quotes, for a shell: '\"text\"'", data)
	}
	return data, nil
}
