package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/phase"
)

func (c *command) migrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Go from phase to phase, and back",
		Long: "The way from a site with a state daemon to resident pages has the phases 0, 3, 4, 5 and 6. Each\n" +
			"step is the line phase under [server] of guado.toml; these verbs look whether it is time for\n" +
			"one, change the line and have the running server take it.",
	}
	cmd.AddCommand(c.migrateStatus(), c.migrateCheck(), c.migrateAdvance(), c.migrateRollback())
	return cmd
}

func (c *command) migrateStatus() *cobra.Command {
	var r *remote
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the phase of the running server",
		Long:    "Shows the phase of the running server, the steps from there, and what became of the last one.",
		Example: example("guado migrate status", ""),
		Args:    cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			var st guado.MigrationStatus
			answer, err := server.get(ctx, "migrate", &st)
			switch {
			case err != nil:
				return err
			case r.asJSON:
				return c.sayJSON(answer)
			}
			return c.say(migrationText(&st))
		}),
	}
	r = addRemote(cmd, true)
	return cmd
}

func migrationText(st *guado.MigrationStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "phase %d: %s\n", st.Phase, st.Words)
	if st.Next != nil {
		fmt.Fprintf(&b, "forward  %d: %s\n", *st.Next, phase.Words(*st.Next))
	}
	if st.Before != nil {
		fmt.Fprintf(&b, "back     %d: %s\n", *st.Before, phase.Words(*st.Before))
	}
	if st.Fixed != "" {
		fmt.Fprintf(&b, "the phase is what %s says, not the file\n", st.Fixed)
	}
	if h := st.Handed; h != nil {
		fmt.Fprintf(&b, "last step: %s: %d items, %d refused, %d differences\n", h.Way, h.Items, len(h.Refused), len(h.Differences))
		for _, line := range append(h.Refused, h.Differences...) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	return b.String()
}

// checked is what the server says of the criteria of a phase.
type checkedPhase struct {
	Phase    int               `json:"phase"`
	Good     bool              `json:"good"`
	Criteria []guado.Criterion `json:"criteria"`
}

func checkPhase(ctx context.Context, server *client, target int, attest []string) (answer []byte, done checkedPhase, err error) {
	answer, err = server.post(ctx, "migrate/check", map[string]any{"phase": target, "attest": attest})
	if err == nil {
		err = server.read(answer, &done)
	}
	return answer, done, err
}

func criteriaText(done *checkedPhase) string {
	var b strings.Builder
	t := newTable(&b, "PHASE", "NAME", "STATE", "HOW", "WHAT", "NOTE")
	for _, r := range done.Criteria {
		t.row(strconv.Itoa(r.Phase), r.Name, string(r.State), r.How, r.What, dashed(r.Note))
	}
	t.end()
	return b.String()
}

const attestHelp = "names of criteria that you vouch for, because no machine can measure them"

func (c *command) migrateCheck() *cobra.Command {
	var r *remote
	var attest []string
	cmd := &cobra.Command{
		Use:   "check [PHASE]",
		Short: "Look whether a phase holds what it promises",
		Long: "Looks at the criteria of a phase in the running server; of the next one, where none is named, and\n" +
			"in the last one of that. Those that only the phase itself can show come later, as long as it is\n" +
			"not taken. The exit code is 1 when one fails.",
		Example: example(
			"guado migrate check", "what is missing before the next phase",
			"guado migrate check 4", "what is missing before phase 4, or in it",
			"guado migrate check 0 --attest tests", "the application's tests have passed",
		),
		Args: cobra.MaximumNArgs(1),
		RunE: c.asking(&r, func(ctx context.Context, server *client, args []string) error {
			target, err := targetPhase(ctx, server, args)
			if err != nil {
				return err
			}
			answer, done, err := checkPhase(ctx, server, target, attest)
			switch {
			case err != nil:
				return err
			case r.asJSON:
				err = c.sayJSON(answer)
			default:
				err = c.say(criteriaText(&done))
			}
			if err == nil && !done.Good {
				return &failure{code: exitFailed, said: r.asJSON, err: errors.New("not all is well: " + failing(&done))}
			}
			return err
		}),
	}
	r = addRemote(cmd, true)
	cmd.Flags().StringSliceVar(&attest, "attest", nil, attestHelp)
	return cmd
}

// targetPhase is the phase that is named, else the next one, else that of the server.
func targetPhase(ctx context.Context, server *client, named []string) (int, error) {
	if len(named) > 0 {
		target, err := strconv.Atoi(named[0])
		if err != nil {
			return 0, fmt.Errorf("%.20q is no phase", named[0])
		}
		return target, nil
	}
	var st guado.MigrationStatus
	if _, err := server.get(ctx, "migrate", &st); err != nil {
		return 0, err
	}
	if st.Next == nil {
		return st.Phase, nil
	}
	return *st.Next, nil
}

func failing(done *checkedPhase) string {
	var names []string
	for _, r := range done.Criteria {
		if r.State == phase.Fails {
			names = append(names, r.Name)
		}
	}
	return strings.Join(names, ", ") + " fails"
}

func (c *command) migrateAdvance() *cobra.Command {
	var r *remote
	var attest []string
	var force bool
	cmd := &cobra.Command{
		Use:   "advance",
		Short: "Take the step to the next phase",
		Long: "Checks the phase that is and the one to come, writes the next phase into guado.toml and has the\n" +
			"running server take it. Nothing else in the file changes, and when the server cannot take the\n" +
			"step the file is as it was. No request fails meanwhile; some wait while items are moved.",
		Example: example(
			"guado migrate advance --attest tests", "from 0 to 3",
			"guado migrate advance --force", "whatever the criteria say",
		),
		Args: cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			var st guado.MigrationStatus
			if _, err := server.get(ctx, "migrate", &st); err != nil {
				return err
			}
			if st.Next == nil {
				return failed(fmt.Errorf("phase %d is the last one", st.Phase))
			}
			if err := c.ready(ctx, server, &st, attest, force); err != nil {
				return err
			}
			return c.step(ctx, server, &st, *st.Next)
		}),
	}
	r = addRemote(cmd, false)
	cmd.Flags().StringSliceVar(&attest, "attest", nil, attestHelp)
	cmd.Flags().BoolVar(&force, "force", false, "take the step whatever the criteria say")
	return cmd
}

// ready says why the next step is not to be taken. What is attested may be of either phase.
func (c *command) ready(ctx context.Context, server *client, st *guado.MigrationStatus, attest []string, force bool) error {
	left := map[string]bool{}
	for _, name := range attest {
		left[name] = true
	}
	var wrong []string
	for _, target := range []int{st.Phase, *st.Next} {
		var own []string
		for _, name := range phase.Names(target) {
			if left[name] {
				own = append(own, name)
			}
		}
		_, done, err := checkPhase(ctx, server, target, own)
		if err != nil {
			return err
		}
		if err := c.say(criteriaText(&done)); err != nil {
			return err
		}
		for _, name := range own {
			delete(left, name)
		}
		if !done.Good {
			wrong = append(wrong, fmt.Sprintf("phase %d: %s", target, failing(&done)))
		}
	}
	for name := range left {
		return fmt.Errorf("--attest %s: neither phase %d nor %d knows that", name, st.Phase, *st.Next)
	}
	if len(wrong) > 0 && !force {
		return failed(fmt.Errorf("not yet: %s (--force takes the step all the same)", strings.Join(wrong, "; ")))
	}
	return nil
}

func (c *command) migrateRollback() *cobra.Command {
	var r *remote
	var force bool
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Take the step back to the phase before",
		Long: "Writes the phase before into guado.toml and has the running server take it. From 4 to 3 all items\n" +
			"go back into the register of before; where none is named they would be lost, so that needs --force.",
		Example: example("guado migrate rollback", ""),
		Args:    cobra.NoArgs,
		RunE: c.asking(&r, func(ctx context.Context, server *client, _ []string) error {
			var st guado.MigrationStatus
			if _, err := server.get(ctx, "migrate", &st); err != nil {
				return err
			}
			switch {
			case st.Before == nil:
				return failed(fmt.Errorf("phase %d is the first one", st.Phase))
			case st.Phase == 4 && st.Stores > 0 && !st.Register && !force:
				return failed(fmt.Errorf("%d stores would be lost: name the register that is to have what they hold (register of [[app]]), or say --force", st.Stores))
			}
			return c.step(ctx, server, &st, *st.Before)
		}),
	}
	r = addRemote(cmd, false)
	cmd.Flags().BoolVar(&force, "force", false, "even if what stores hold is lost")
	return cmd
}

// step changes the one line and has the server take it. Where that fails, the file is as it was.
func (c *command) step(ctx context.Context, server *client, st *guado.MigrationStatus, to int) error {
	switch {
	case st.File == "":
		return failed(errors.New("the server was started without a file in which the phase could stand"))
	case st.Fixed != "":
		return failed(fmt.Errorf("%s says the phase, so that the line in %s would change nothing", st.Fixed, st.File))
	}
	before, err := os.ReadFile(st.File)
	if err != nil {
		return failed(err)
	}
	after, err := config.SetPhase(string(before), to)
	if err != nil {
		return failed(fmt.Errorf("%s: %w", st.File, err))
	}
	if err := replaceFile(st.File, []byte(after)); err != nil {
		return failed(err)
	}
	answer, err := server.post(ctx, "reload", nil)
	if err != nil {
		if back := replaceFile(st.File, before); back != nil {
			return failed(errors.Join(notReloaded(err), back))
		}
		return notReloaded(err)
	}
	var done guado.Reload
	if err := json.Unmarshal(answer, &done); err != nil {
		return failed(err)
	}
	return c.say(fmt.Sprintf("phase %d: %s (%.1f s)\n", to, phase.Words(to), done.Seconds))
}

// replaceFile writes a file whole or not at all, with the owner and rights that it has.
func replaceFile(path string, data []byte) (err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if errors.Is(err, fs.ErrPermission) {
		return os.WriteFile(path, data, info.Mode().Perm()) // the file may be written, but not its folder
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, keepOwner(f, info), f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
