package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func (c *command) stop() *cobra.Command {
	var r *remote
	var now bool
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the running server and wait for its end",
		Long: "Stop the running server as SIGTERM does, and wait for its end: no new connections,\n" +
			"requests under way are finished for at most the graceful timeout.",
		Example: example(
			"guado stop", "the server of this folder",
			"guado stop --now", "cut what is under way",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			return stopServer(ctx, server, now)
		}),
	}
	r = addRemote(cmd, false)
	cmd.Flags().BoolVar(&now, "now", false, "without waiting for what is under way")
	return cmd
}

// stopServer begins the stop and waits: a stream of the log ends with the server.
func stopServer(ctx context.Context, server *client, now bool) error {
	res, err := server.do(ctx, http.MethodGet, "logs", url.Values{"follow": {"true"}, "tail": {"0"}}, nil)
	if err != nil {
		return err
	}
	_, err = server.post(ctx, "stop", map[string]bool{"now": now})
	if err == nil {
		// However the stream ends: the server is gone.
		_, _ = io.Copy(io.Discard, res.Body)
		if ctx.Err() != nil {
			err = failed(errors.New("the server stops, but has not ended yet"))
		}
	}
	return errors.Join(err, res.Body.Close())
}
