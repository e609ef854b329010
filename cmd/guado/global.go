package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (c *command) global() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "global",
		Short: "Look into the global store, and write into it",
		Long: "The global store is the dictionary that all workers, executors and programs share (from phase 4\n" +
			"on). A PATH is keys with dots between them; where a key has a dot, a list in JSON: '[\"a\", \"b.c\"]'.",
	}
	cmd.AddCommand(c.globalGet(), c.globalList(), c.globalSet(), c.globalDelete())
	return cmd
}

// globalFound is what is at a path.
type globalFound struct {
	Found bool            `json:"found"`
	Value json.RawMessage `json:"value"`
}

// globalAt asks for what is at a path.
func globalAt(ctx context.Context, server *client, words []string) (answer []byte, found globalFound, err error) {
	query := url.Values{}
	if len(words) > 0 {
		keys, err := keysOf(words[0])
		if err != nil {
			return nil, found, err
		}
		query["key"] = keys
	}
	answer, err = server.getWith(ctx, "global", query, &found)
	return answer, found, err
}

// keysOf takes a path apart.
func keysOf(word string) (keys []string, err error) {
	if strings.HasPrefix(word, "[") {
		if err := json.Unmarshal([]byte(word), &keys); err != nil {
			return nil, fmt.Errorf("%.60q is no list of keys in JSON: '[\"a\", \"b.c\"]'", word)
		}
		return keys, nil
	}
	return strings.Split(word, "."), nil
}

func (c *command) globalGet() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "get PATH",
		Short: "Print what is at a path, as JSON",
		Long:  "Prints the value at a path; of one with others below it, all of them. The exit code is 1 when there is none.",
		Example: example(
			"guado global get rates.EUR", "one value",
			"guado global get --json rates", "and the number of the last write",
		),
		Args: cobra.ExactArgs(1),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			answer, found, err := globalAt(ctx, server, args)
			switch {
			case err != nil:
				return err
			case r.asJSON:
				err = c.sayJSON(answer)
			case found.Found:
				err = c.sayJSON(found.Value)
			}
			if err == nil && !found.Found {
				return &failure{code: exitFailed, said: r.asJSON, err: fmt.Errorf("there is nothing at %s", args[0])}
			}
			return err
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

func (c *command) globalList() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "list [PATH]",
		Short:   "List paths and values",
		Long:    "Lists the paths below one, or all of them, each with its value.",
		Example: example("guado global list", "everything, a line for each value"),
		Args:    cobra.MaximumNArgs(1),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			answer, found, err := globalAt(ctx, server, args)
			if err != nil {
				return err
			}
			if r.asJSON {
				return c.sayJSON(answer)
			}
			var b strings.Builder
			t := newTable(&b, "PATH", "VALUE")
			if found.Found {
				var at []string
				if len(args) > 0 {
					if at, err = keysOf(args[0]); err != nil {
						return err
					}
				}
				if err := listGlobal(t, at, found.Value); err != nil {
					return failed(err)
				}
			}
			t.end()
			return c.say(b.String())
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

// listGlobal makes a row of each value.
func listGlobal(t *table, at []string, value json.RawMessage) error {
	if len(value) == 0 || value[0] != '{' || bytes.HasPrefix(value, []byte(`{"$`)) || string(value) == "{}" && len(at) > 0 {
		t.row(pathText(at), string(value))
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(value))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		var below json.RawMessage
		if err == nil {
			err = d.Decode(&below)
		}
		if err != nil {
			return err
		}
		if err := listGlobal(t, append(at[:len(at):len(at)], fmt.Sprint(key)), below); err != nil {
			return err
		}
	}
	return nil
}

// pathText is a path as it can be given again.
func pathText(keys []string) string {
	for _, key := range keys {
		if key == "" || strings.ContainsAny(key, ".[") {
			if text, err := json.Marshal(keys); err == nil {
				return string(text)
			}
		}
	}
	return strings.Join(keys, ".")
}

func (c *command) globalSet() *cobra.Command {
	var r *remote
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "set PATH JSON",
		Short: "Put a value at a path",
		Long:  "Puts a value at a path, in place of whatever is there; \"-\" reads it from standard input.",
		Example: example(
			"guado global set rates.EUR 1.08", "all workers have it when this returns",
			"guado global set --ttl 1h closed true", "for an hour",
		),
		Args: cobra.ExactArgs(2),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			keys, err := keysOf(args[0])
			if err != nil {
				return err
			}
			value, err := jsonOf(args[1])
			if err != nil {
				return err
			}
			if ttl < 0 || ttl > 0 && ttl < time.Millisecond {
				return errors.New("--ttl is a time of at least 1ms")
			}
			answer, err := server.post(ctx, "global.set", map[string]any{"path": keys, "value": value, "ttl_ms": ttl.Milliseconds()})
			if err == nil && r.asJSON {
				err = c.sayJSON(answer)
			}
			return err
		}),
	}
	r = addRemote(cmd, true)
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "take it away again after this time")
	return cmd
}

func (c *command) globalDelete() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "delete PATH",
		Short:   "Take a path away, with all below it",
		Long:    "Takes a path away, with all below it. The exit code is 1 when nothing was there.",
		Example: example("guado global delete rates", "all of them"),
		Args:    cobra.ExactArgs(1),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			keys, err := keysOf(args[0])
			if err != nil {
				return err
			}
			answer, err := server.post(ctx, "global.delete", map[string]any{"path": keys})
			if err != nil {
				return err
			}
			var done struct {
				Deleted bool `json:"deleted"`
			}
			if err := server.read(answer, &done); err != nil {
				return err
			}
			if r.asJSON {
				err = c.sayJSON(answer)
			}
			if err == nil && !done.Deleted {
				return &failure{code: exitFailed, said: r.asJSON, err: fmt.Errorf("there is nothing at %s", args[0])}
			}
			return err
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}
