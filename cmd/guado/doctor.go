package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/doctor"
	"github.com/guado-server/guado/python"
)

func (c *command) doctor() *cobra.Command {
	var s *source
	var asJSON bool
	socket := text{kind: "PATH"}
	cmd := &cobra.Command{
		Use:   "doctor [MODULE:ATTR]",
		Short: "Look whether this machine has what the server needs",
		Long: "Look whether this machine has what the server needs: versions, kernel, limits, files and\n" +
			"who can reach them, sockets; and how the server is, when it runs with this configuration.\n" +
			"Each finding says what there is, what is thought of it and what to do. Nothing is changed.\n" +
			"The exit code is 1 when a finding says fail; a warning alone leaves it 0.",
		Example: example(
			"guado doctor", "guado.toml in this folder",
			"guado doctor --config /etc/shop/guado.toml", "another one",
			"guado doctor --json", "for programs",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, release := interruptible(cmd.Context())
			defer release()
			cfg, err := c.load(s, args, false)
			if err != nil {
				return err
			}
			running, err := c.findRunning(ctx, cfg, socket.value)
			if err != nil {
				return err
			}
			report := doctor.Examine(ctx, doctor.Case{Config: cfg, Environ: c.environ, Files: python.Files, Running: running})
			return c.showReport(report, asJSON)
		},
	}
	s = addSource(cmd)
	cmd.Flags().Var(&socket, "socket", "admin socket of the running server (default: as the configuration says)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, for programs")
	return cmd
}

// findRunning asks the server that runs with a configuration how it is; nil: there is
// none. One that was named must be there.
func (c *command) findRunning(ctx context.Context, cfg *config.Config, socket string) (*doctor.Running, error) {
	named := socket != ""
	if !named && cfg.Admin.Socket == config.AdminOff {
		return nil, nil //nolint:nilnil // nobody can be asked
	}
	var err error
	if !named {
		socket, err = alive(ctx, cfg.Admin.Socket)
	}
	var st guado.Status
	var server *client
	if err == nil {
		server, err = c.connect(ctx, &remote{socket: text{value: socket}})
	}
	if err == nil {
		_, err = server.get(ctx, "status", &st)
	}
	var f *failure
	switch {
	case err == nil:
	case !named && errors.As(err, &f) && f.code == exitNoServer:
		return nil, nil //nolint:nilnil // none runs
	default:
		return nil, err
	}
	found := &doctor.Running{
		PID: st.PID, Version: st.Version, State: string(st.State), Listen: st.Listen, Admin: st.Admin,
		Pending: st.Reloads.Pending, Reload: st.Reloads.Error,
	}
	switch gate := st.Gate; {
	case gate.Maintenance, gate.Flag:
		found.Closed = "closed for maintenance"
	case gate.Paused:
		found.Closed = fmt.Sprintf("paused since %s", gate.PausedAt.Format(time.DateTime))
	}
	if problem := unwell(&st); problem != nil {
		found.Problems = []string{problem.Error()}
	}
	return found, nil
}

// showReport prints what was found; what fails makes the exit code.
func (c *command) showReport(r *doctor.Report, asJSON bool) error {
	var err error
	if asJSON {
		var answer []byte
		if answer, err = json.Marshal(r); err == nil {
			err = c.sayJSON(answer)
		}
	} else {
		err = c.say(reportText(r))
	}
	if err == nil && r.Verdict == doctor.Fail {
		err = &failure{code: exitFailed, err: errors.New("the machine is not as the server needs it"), said: true}
	}
	return err
}

// reportText is a report for people.
func reportText(r *doctor.Report) string {
	var b strings.Builder
	area, counts := "", map[doctor.Verdict]int{}
	for _, f := range r.Findings {
		if f.Area != area {
			if area != "" {
				b.WriteString("\n")
			}
			area = f.Area
			b.WriteString(area + "\n")
		}
		counts[f.Verdict]++
		fmt.Fprintf(&b, "  %-4s  %s: %s\n", f.Verdict, f.Check, strings.ReplaceAll(f.Value, "\n", "\n        "))
		if f.Advice != "" {
			fmt.Fprintf(&b, "        → %s\n", strings.ReplaceAll(f.Advice, "\n", "\n        "))
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d warn, %d fail\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail])
	return b.String()
}
