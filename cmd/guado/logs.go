package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado/internal/admin"
)

func (c *command) logs() *cobra.Command {
	var r *remote
	var follow bool
	var tail int
	level := text{kind: "LEVEL"}
	cmd := &cobra.Command{
		Use:   "logs [SOURCE]...",
		Short: "Show what the running server and its processes print",
		Long: "Show what the running server logs and what its workers print: all of it, or what a\n" +
			"worker (p01), a group, an app or a program prints and what the server says of it.\n\n" +
			"With --level a line that a process prints counts by the level that it names itself, when\n" +
			"it is an object of JSON (level, levelname or severity); all other lines have none, and\n" +
			"are left out above debug. -n counts what is left.",
		Example: example(
			"guado logs -f", "what happens now, until Ctrl-C",
			"guado logs -f p01", "one worker",
			"guado logs -n 1000 --level warn", "what went wrong lately",
		),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			query := url.Values{"source": args, "tail": {strconv.Itoa(tail)}}
			if follow {
				query.Set("follow", "true")
			}
			if level.value != "" {
				query.Set("level", level.value)
			}
			res, err := server.do(ctx, http.MethodGet, "logs", query, nil)
			if err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // told to end
				}
				return err
			}
			err = errors.Join(c.printLogs(res.Body, r.asJSON), res.Body.Close())
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to end
			}
			return failed(err)
		}),
	}
	r = addRemote(cmd, true)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as there is more, until Ctrl-C or the end of the server")
	cmd.Flags().IntVarP(&tail, "tail", "n", 100, "how many of the last records come first")
	cmd.Flags().Var(&level, "level", "least level: debug, info, warn or error; leaves out lines that name none")
	must(cmd.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// printLogs passes records on as they come.
func (c *command) printLogs(in io.Reader, asJSON bool) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			out := string(line)
			if !asJSON {
				var r admin.Record
				if err := json.Unmarshal(line, &r); err != nil {
					return fmt.Errorf("a record of the log: %w", err)
				}
				out = recordText(&r)
			}
			if err := c.say(out); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// levelWords are the levels as the console writes them.
var levelWords = map[string]string{"DEBUG": "DBG", "INFO": "INF", "WARN": "WRN", "ERROR": "ERR"}

// recordText is a record for people.
func recordText(r *admin.Record) string {
	var b, blocks strings.Builder
	kind := r.Source
	if r.Level != "" {
		kind = r.Level
		if short, ok := levelWords[r.Level]; ok {
			kind = short
		}
	}
	message, rest, _ := strings.Cut(r.Message, "\n")
	if rest != "" {
		blocks.WriteString(rest + "\n")
	}
	fmt.Fprintf(&b, "%s %-6s %s", r.Time.Local().Format("15:04:05.000"), kind, message)
	for _, key := range slices.Sorted(maps.Keys(r.Attrs)) {
		value := fmt.Sprint(r.Attrs[key])
		switch {
		case strings.Contains(value, "\n"):
			blocks.WriteString(strings.TrimRight(value, "\n") + "\n")
		case value == "" || strings.ContainsAny(value, " \"="):
			fmt.Fprintf(&b, " %s=%q", key, value)
		default:
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
	}
	return b.String() + "\n" + blocks.String()
}
