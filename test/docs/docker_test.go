package docs

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// instruction is one line of a Dockerfile, continued lines joined.
type instruction struct{ name, args string }

// stage is what is between two FROMs.
type stage struct {
	name string
	list []instruction
}

var knownInstructions = []string{"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

func dockerfile(t *testing.T, path string) (stages []stage) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(text), ""), "")
	for line := range strings.Lines(joined) {
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "":
			continue
		case !slices.Contains(knownInstructions, name):
			t.Errorf("no such instruction: %s", line)
		case args == "":
			t.Errorf("an instruction without arguments: %s", line)
		case name == "FROM":
			_, as, _ := strings.Cut(args, " AS ")
			stages = append(stages, stage{name: as})
		case len(stages) == 0 && name != "ARG":
			t.Errorf("before the first FROM: %s", line)
		}
		if len(stages) > 0 {
			last := &stages[len(stages)-1]
			last.list = append(last.list, instruction{name, args})
		}
	}
	return stages
}

// last gives the arguments of the last instruction with a name, which is the one that counts.
func (s stage) last(t *testing.T, name string) string {
	t.Helper()
	for _, i := range slices.Backward(s.list) {
		if i.name == name {
			return i.args
		}
	}
	t.Fatalf("stage %q has no %s", s.name, name)
	return ""
}

// words reads the form of a command that needs no shell.
func words(t *testing.T, args string) (list []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(args), &list); err != nil {
		t.Fatalf("%s is not a list of words: a shell would keep the signals: %v", args, err)
	}
	return list
}

// container is a folder in the place of an image's file system.
type container struct {
	t    *testing.T
	root string
	env  []string
}

// in puts the folder before the paths of the image.
func (c *container) in(text string) string {
	for _, dir := range []string{"/app", "/var/lib/guado", "/var/cache/guado"} {
		text = regexp.MustCompile(`(^|[\s="'])`+dir).ReplaceAllString(text, "${1}"+c.root+dir)
	}
	return text
}

func (c *container) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = c.root+"/app", c.env
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// shell runs a command as RUN and HEALTHCHECK do.
func (c *container) shell(line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := c.command(ctx, "sh", "-c", c.in(line)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// TestTheCommandsOfTheDockerfileWork runs them in a folder instead of an image, the entry
// point as process 1 of a namespace where the machine allows that.
func TestTheCommandsOfTheDockerfileWork(t *testing.T) {
	example := filepath.Join(harness.Root(), "examples", "docker")
	stages := dockerfile(t, filepath.Join(example, "Dockerfile"))
	if len(stages) != 3 {
		t.Fatalf("%d stages", len(stages))
	}
	build, final := stages[1], stages[2]
	checkImage(t, stages)

	c := &container{t: t, root: t.TempDir()}
	for _, dir := range []string{"/app", "/var/lib/guado", "/var/cache"} {
		if err := os.MkdirAll(c.root+dir, 0o755); err != nil { //nolint:gosec // as in the image
			t.Fatal(err)
		}
	}
	c.env = []string{
		"PATH=" + filepath.Dir(harness.Binary(t)) + ":" + filepath.Dir(harness.Python(t, "newest")) + ":" + os.Getenv("PATH"), "HOME=" + c.root,
		c.in(strings.Fields(final.last(t, "ENV"))[0]),
	}
	if build.last(t, "ENV") != strings.Fields(final.last(t, "ENV"))[0] {
		t.Error("the extension is not built where the image has it")
	}
	// The tests' interpreters bring no pip: nothing is to be installed anyway.
	if err := c.shell("python3 -m venv --without-pip .venv"); err != nil {
		t.Fatal(err)
	}
	if err := c.shell(build.last(t, "RUN")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	for _, name := range []string{"guado.toml", "shop.py"} {
		text, err := os.ReadFile(filepath.Join(example, name))
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(c.in(string(text)), ":8000", "127.0.0.1:"+port)
		if err := os.WriteFile(filepath.Join(c.root, "app", name), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.serve(final, port)
}

// checkImage looks at what can be seen without running it.
func checkImage(t *testing.T, stages []stage) {
	t.Helper()
	var names []string
	for _, s := range stages {
		for _, i := range s.list {
			if from := regexp.MustCompile(`--from=(\S+)`).FindStringSubmatch(i.args); from != nil && !slices.Contains(names, from[1]) {
				t.Errorf("%s %s: there is no stage %q before it", i.name, i.args, from[1])
			}
		}
		names = append(names, s.name)
	}
	final := stages[len(stages)-1]
	if user := final.last(t, "USER"); user == "root" || user == "0" {
		t.Error("it runs as root")
	}
	if s := final.last(t, "STOPSIGNAL"); s != "SIGTERM" {
		t.Errorf("%s does not let requests finish", s)
	}
}

// serve runs the image's command, asks for its health, and stops it by its signal.
func (c *container) serve(final stage, port string) {
	t := c.t
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	line := append(words(t, final.last(t, "ENTRYPOINT")), words(t, final.last(t, "CMD"))...)
	for i := range line {
		line[i] = c.in(line[i])
	}
	asFirst := exec.CommandContext(ctx, "unshare", "--pid", "--fork", "--mount-proc", "true").Run() == nil
	if asFirst {
		line = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}, line...)
	} else {
		t.Log("no namespaces here: it is not tried as process 1")
	}
	server := c.command(ctx, line[0], line[1:]...)
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var log harness.Log
	server.Stdout, server.Stderr = &log, &log
	_, health, _ := strings.Cut(final.last(t, "HEALTHCHECK"), "CMD ")
	if c.shell(health) == nil {
		t.Error("it is healthy before it is there")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL) // it may have ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	var unwell error
	harness.Eventually(t, "a healthy server", time.Minute, func() bool {
		unwell = c.shell(health)
		return unwell == nil
	})
	if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close() // it was only tried
	}
	pid := server.Process.Pid
	if asFirst {
		pid = childOf(t, pid)
		if n := inside(t, pid); n != "1" {
			t.Errorf("it is process %s of its namespace", n)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the stop signal: %v", err)
		}
	case <-ctx.Done():
		t.Error("it does not stop")
	}
}

func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil {
		_, err = fmt.Sscan(string(list), &child)
	}
	if err != nil {
		t.Fatal(err)
	}
	return child
}

// inside is the number of a process in the innermost namespace.
func inside(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^NSpid:.*\s(\d+)$`).FindStringSubmatch(string(status))
	if m == nil {
		t.Fatalf("no NSpid in\n%s", status)
	}
	return m[1]
}
