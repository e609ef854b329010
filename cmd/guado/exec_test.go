package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const execConfig = `
[[app]]
name = "hello"
target = "hello"
dir = "site"
python = ".venv"
[app.env]
COLOR = "green"

[[app]]
name = "other"
target = "hello"
python = "python3"

[[mount]]
path = "/"
app = "hello"
[[mount]]
path = "/other"
app = "other"

[[program]]
name = "tasks"
group = "hello"
command = ["true"]
autostart = false
instances = 2
umask = "027"
rlimits = { nofile = "100:200" }
[program.env]
COLOR = "blue {number}"
`

// execProject has an app in a folder of its own with a virtual environment that holds
// one command.
func execProject(t *testing.T) string {
	t.Helper()
	dir := project(t, map[string]string{
		"guado.toml": execConfig, "hello.py": hello, "site/hello.py": hello, ".venv/pyvenv.cfg": "",
		".venv/bin/only-here": "#!/bin/sh\necho \"$COLOR in $(basename \"$PWD\") of $(basename \"$VIRTUAL_ENV\"): $*\"\nexit 7\n",
	})
	if err := os.Symlink(interpreter(), filepath.Join(dir, ".venv/bin/python")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, ".venv/bin/only-here"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestExecRunsACommandAsAWorkerOfTheAppWould(t *testing.T) {
	dir := execProject(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"exec hello -- only-here a --config b", 7, "green in site of .venv: a --config b\n"},
		{"exec hello only-here --x", 7, "green in site of .venv: --x\n"},
		{"exec tasks -- only-here", 7, "blue 1 in site of .venv: \n"},
		{"exec other -- sh -c pwd", 0, dir + "\n"},
		{"exec hello -- python -c import\tguado;print(guado.executor('any').submit(abs,-1).result())", 0, "1\n"},
		{"exec tasks -- sh -c umask;ulimit", 0, "0027\n"},
		{"exec --config guado.toml hello -- python -c exit(5)", 5, ""},
		{"exec other -- only-here", 127, `there is no command "only-here" on the PATH`},
		{"exec other -- ./nowhere", 127, `there is no command "./nowhere"`},
		{"exec other -- ./hello.py", 126, "permission denied"},
		{"exec -- pwd", 2, "say which: guado exec APP -- COMMAND; there are hello, other, tasks"},
		{"exec helo -- pwd", 2, `there is no app, group or program "helo"; did you mean "hello"?`},
		{"exec hello", 2, "name a command"},
		{"exec --config none.toml hello -- pwd", 2, "no such file"},
	} {
		r := run(t, dir, words(c.args)...)
		if all := r.out + r.err; r.code != c.code || !strings.Contains(all, c.says) {
			t.Errorf("guado %s: code %d, want %d; it says %q, want %q", c.args, r.code, c.code, all, c.says)
		}
	}
}

func TestExecTakesTheAccountOfTheApp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := project(t, map[string]string{"hello.py": hello, "guado.toml": "[[app]]\ntarget = \"hello\"\nuser = \"65534:65533\"\numask = \"027\"\n"})
	if r := run(t, dir, "exec", "hello", "--", "sh", "-c", "echo $(id -u) $(id -g) $(umask)"); r.code != 0 || r.out != "65534 65533 0027\n" {
		t.Errorf("%+v", r)
	}
}

// words takes a command line apart at its blanks; a tab stands for one inside a word.
func words(line string) []string {
	list := strings.Split(line, " ")
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "\t", " ")
	}
	return list
}

func TestAProgramOfAGroupCanImportWhatAWorkerCan(t *testing.T) {
	dir, s := site(t, map[string]string{
		"job.py": "import guado, os\nprint('found', guado.executor('cpu').submit(abs, -7).result(), os.environ['PYTHONPATH'].split(':')[0])\n",
		"guado.toml": "[[app]]\ntarget = \"hello\"\n[[executor]]\nname = \"cpu\"\n" +
			"[[program]]\nname = \"job\"\ngroup = \"hello\"\nonce = true\ncommand = [\"" + interpreter() + "\", \"job.py\"]\nenv = { PYTHONPATH = \"lib\" }\n",
	})
	s.wait(`job \| found 7 lib\n`)
	if r := run(t, dir, "logs", "job"); !strings.Contains(r.out, "found 7 lib") {
		t.Errorf("%+v", r)
	}
}

func TestAProgramEndsWithAHostThatWasKilledAndIsAskedFirst(t *testing.T) {
	dir := project(t, map[string]string{
		"hello.py": hello,
		"guado.toml": "[server]\nlisten = [\"127.0.0.1:0\"]\n[[app]]\nname = \"hello\"\ntarget = \"hello\"\nafter = [\"daemon\", \"polite\"]\n" +
			"[[program]]\nname = \"polite\"\nready = \"log:up\"\nstop_signal = \"INT\"\nstop_timeout = 60\n" +
			"command = [\"sh\", \"-c\", \"trap 'echo done >last; exit' INT; echo up; while :; do sleep 0.1; done\"]\n" +
			"[[program]]\nname = \"daemon\"\nready = \"log:up\"\nstop_timeout = 1\n" +
			"command = [\"sh\", \"-c\", \"trap '' TERM; sleep 1000 & echo $$ $! >pids; echo up; while :; do sleep 0.1; done\"]\n",
	})
	s := serving(t, dir, "serve")
	text, err := os.ReadFile(filepath.Join(dir, "pids"))
	if err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	if _, err := fmt.Sscan(string(text), &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGKILL)
	for _, pid := range pids {
		poll(t, fmt.Sprintf("process %d is gone", pid), func() bool { return ended(pid) })
	}
	poll(t, "the polite one has finished its work", func() bool {
		last, err := os.ReadFile(filepath.Join(dir, "last"))
		return err == nil && string(last) == "done\n"
	})
}

// ended reports whether a process is gone; one that nobody reaps counts as gone.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}
