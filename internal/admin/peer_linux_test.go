package admin

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// client prepares a run of this program as a client; it is a child of the server, which
// is in this process.
func client(t *testing.T, socket string, prefix ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	args := append(slices.Clone(prefix), os.Args[0])
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), asClient+"="+socket)
	return cmd
}

func TestWhoeverTheHostStartedIsRefused(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Host = os.Getpid() })
	for name, prefix := range map[string][]string{
		"a child":      nil,
		"a grandchild": {"sh", "-c", `"$0"; exit $?`},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := client(t, r.Path(), prefix...).Output()
			if err == nil || code(t, string(out)) != "forbidden" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// The parent of an orphan is the init process, or a reaper between it and us: only what
// it carries in its environment tells whose it is.
func TestAnOrphanOfTheHostIsRefusedByItsEnvironment(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("here every orphan is a child of the test")
	}
	r := newRig(t, func(o *Options) { o.Host = os.Getpid() })
	for instance, want := range map[string]string{"INSTANCE": "forbidden", "ANOTHER": ""} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		// The shell ends at once; what it leaves behind waits for that, then asks.
		cmd := client(t, r.Path(), "sh", "-c", `setsid sh -c 'while kill -0 $1 2>/dev/null; do sleep 0.05; done; exec "$0"' "$0" $$ & `)
		cmd.Env = append(cmd.Env, "GUADO_INSTANCE="+instance)
		cmd.Stdout = writer
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		_ = reader.Close() // it was read to its end
		if want != "" && code(t, string(out)) != want {
			t.Errorf("instance %s: %s", instance, out)
		}
		if want == "" && !strings.Contains(string(out), "fine") {
			t.Errorf("instance %s: %s", instance, out)
		}
	}
}

func TestAProcessThatHasEndedIsNobody(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := descends(cmd.Process.Pid, os.Getpid(), ""); err == nil {
		t.Error("it was judged")
	}
}

func TestTheParentIsReadWhateverTheProcessIsCalled(t *testing.T) {
	sleeper := filepath.Join(t.TempDir(), ") 1 (S")
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, sleeper); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sleeper, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it sleeps
		_ = cmd.Wait()
	}()
	if parent, err := parentOf(cmd.Process.Pid); err != nil || parent != os.Getpid() {
		t.Errorf("parent %d: %v", parent, err)
	}
}
