package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// pauseFlags bound what a pause holds, and how long it waits for its begin.
type pauseFlags struct {
	requests    int
	wait, drain time.Duration
}

func (c *command) pause() *cobra.Command {
	var r *remote
	var f pauseFlags
	cmd := &cobra.Command{
		Use:   "pause [-- COMMAND [ARG]...]",
		Short: "Hold requests, while a migration runs",
		Long: "Hold the requests that come from now on, wait until those from before are answered, and\n" +
			"return: nothing runs then that could disturb a migration. `guado resume` lets the held\n" +
			"ones go on. With a command: run it during a pause of its own, which ends with it,\n" +
			"however it ends; its exit code is the exit code.",
		Example: example(
			"guado pause", "until guado resume",
			"guado pause -- guado exec shop -- python manage.py migrate", "as long as the command runs",
		),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return errors.New("a command stands behind --: guado pause -- COMMAND")
			}
			return nil
		},
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			if len(args) == 0 {
				return pauseServer(ctx, server, f)
			}
			return c.pauseFor(ctx, server, f, args)
		}),
	}
	r = addRemote(cmd, false)
	cmd.Flags().IntVar(&f.requests, "requests", 0, "most requests that are held (default: as the configuration says)")
	cmd.Flags().DurationVar(&f.wait, "wait", 0, "longest that a request is held (default: as the configuration says)")
	cmd.Flags().DurationVar(&f.drain, "drain", 0, "longest wait for requests from before (default: the graceful timeout)")
	return cmd
}

func pauseServer(ctx context.Context, server *client, f pauseFlags) error {
	body := map[string]any{}
	if f.requests > 0 {
		body["requests"] = f.requests
	}
	if f.wait > 0 {
		body["wait_seconds"] = f.wait.Seconds()
	}
	if f.drain > 0 {
		body["drain_seconds"] = f.drain.Seconds()
	}
	_, err := server.post(ctx, "pause", body)
	return err
}

// pauseFor runs a command during a pause. Whatever happens, the pause that it has begun
// does not stay.
func (c *command) pauseFor(ctx context.Context, server *client, f pauseFlags, words []string) error {
	err := pauseServer(ctx, server, f)
	var told *refused
	if errors.As(err, &told) && told.Code == "paused_already" {
		return err // it is somebody else's
	}
	if err == nil {
		err = c.runBeside(ctx, words)
	}
	_, ended := server.post(context.WithoutCancel(ctx), "resume", nil)
	if ended == nil || errors.As(ended, &told) && told.Code == "not_paused" {
		return err
	}
	return errors.Join(err, failed(fmt.Errorf("the pause may go on: %w", ended)))
}

// runBeside runs a command with this process's terminal, folder and environment, and
// gives its exit code as a failure.
func (c *command) runBeside(ctx context.Context, words []string) error {
	child := exec.CommandContext(ctx, words[0], words[1:]...)
	child.Stdin, child.Stdout, child.Stderr, child.Env = os.Stdin, c.out, c.err, c.environ
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	err := child.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return &failure{code: max(ended.ExitCode(), exitFailed), err: fmt.Errorf("%s: %w", words[0], err)}
	}
	return failed(err)
}

func (c *command) resume() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "resume",
		Short:   "Let go on what a pause has held",
		Example: example("guado resume", "after guado pause"),
		Args:    cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			_, err := server.post(ctx, "resume", nil)
			return err
		}),
	}
	r = addRemote(cmd, false)
	return cmd
}

func (c *command) maintenance() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:   "maintenance on|off",
		Short: "Close the server for everybody, or open it again",
		Long: "Close the server: everybody but who is in maintenance.allow gets 503 and the\n" +
			"maintenance page. It lasts until it is turned off, or the server ends. While the flag\n" +
			"file of the configuration is there, the server stays closed all the same.",
		Example:   example("guado maintenance on", "", "guado maintenance off", ""),
		ValidArgs: []string{"on", "off"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			_, err := server.post(ctx, "maintenance", map[string]bool{"on": args[0] == "on"})
			return err
		}),
	}
	r = addRemote(cmd, false)
	return cmd
}
