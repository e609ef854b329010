package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// OldestPython is the first minor version of CPython 3 that workers run on.
const OldestPython = 11

// Interpreter is a CPython that workers can run on.
type Interpreter struct {
	Executable     string `json:"executable"` // as it is started: inside its virtual environment, links not followed
	Implementation string `json:"implementation"`
	Version        [3]int `json:"version"`
	FreeThreaded   bool   `json:"free_threaded"`
	Platform       string `json:"platform"` // sysconfig.get_platform(): "linux-x86_64"
	ABI            string `json:"abi"`      // SOABI: "cpython-312-x86_64-linux-gnu"; names machine and libc
	Include        string `json:"include"`  // folder where Python.h should be
	Headers        bool   `json:"headers"`  // it is there
	VirtualEnv     string `json:"-"`        // folder of the virtual environment; empty: none
	Source         string `json:"-"`        // why this one: "--python", ".venv", "VIRTUAL_ENV", "PATH"
}

// String is "CPython 3.12.1 (/srv/shop/.venv/bin/python)".
func (in *Interpreter) String() string {
	return fmt.Sprintf("CPython %s (%s)", in.VersionText(), in.Executable)
}

// VersionText is "3.12.1".
func (in *Interpreter) VersionText() string {
	return fmt.Sprintf("%d.%d.%d", in.Version[0], in.Version[1], in.Version[2])
}

// key names the interpreter in the cache; another build of the same version on
// another machine or libc is another one.
func (in *Interpreter) key() string {
	return in.ABI + "-" + in.Platform
}

//go:embed probe.py
var probeScript string

// Find looks for the interpreter of a group and asks it what it is. python is what
// the operator named: a path, a command, the folder of a virtual environment, or
// empty; then it is .venv in the first of the folders that has one, $VIRTUAL_ENV, and
// python3 on the PATH.
func (c *Cache) Find(ctx context.Context, python string, dirs ...string) (*Interpreter, error) {
	path, source, err := c.locate(python, dirs)
	if err != nil {
		return nil, err
	}
	in, err := c.probe(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("python %q (%s): %w", path, source, err)
	}
	in.Source = source
	in.VirtualEnv = virtualEnv(in.Executable)
	if err := in.suitable(); err != nil {
		return nil, fmt.Errorf("python %q (%s): %w", path, source, c.suggest(err))
	}
	return in, nil
}

func (c *Cache) locate(python string, dirs []string) (path, source string, err error) {
	if python != "" {
		path, err = c.explicit(python)
		return path, "--python", err
	}
	type place struct{ source, dir string }
	var places []place
	for _, dir := range dirs {
		places = append(places, place{".venv", filepath.Join(dir, ".venv")})
	}
	if dir := c.getenv("VIRTUAL_ENV"); dir != "" {
		places = append(places, place{"VIRTUAL_ENV", dir})
	}
	for _, venv := range places {
		if _, err := os.Stat(filepath.Join(venv.dir, "pyvenv.cfg")); err == nil {
			path, err := inVirtualEnv(venv.dir)
			return path, venv.source, err
		}
	}
	for _, name := range []string{"python3", "python"} {
		if path, err := c.lookPath(name); err == nil {
			return path, "PATH", nil
		}
	}
	return "", "", errors.New("no Python was found: there is no .venv in " + strings.Join(slices.Compact(slices.Clone(dirs)), " or ") +
		", VIRTUAL_ENV is not set and python3 is not on the PATH; install CPython 3.11 or newer, or name one with --python")
}

func (c *Cache) explicit(python string) (string, error) {
	if !strings.ContainsRune(python, filepath.Separator) {
		path, err := c.lookPath(python)
		if err != nil {
			return "", fmt.Errorf("python %q is not on the PATH; give the path of an interpreter or the folder of a virtual environment", python)
		}
		return path, nil
	}
	info, err := os.Stat(python)
	if err != nil {
		return "", fmt.Errorf("python %q: %w", python, brokenLink(python, err))
	}
	if info.IsDir() {
		return inVirtualEnv(python)
	}
	return filepath.Abs(python)
}

// inVirtualEnv finds the interpreter of a virtual environment.
func inVirtualEnv(dir string) (string, error) {
	var missing error
	for _, name := range []string{"python", "python3"} {
		path := filepath.Join(dir, "bin", name)
		if _, err := os.Stat(path); err == nil {
			return filepath.Abs(path)
		} else if missing == nil {
			missing = brokenLink(path, err)
		}
	}
	return "", fmt.Errorf("virtual environment %q has no interpreter: %w", dir, missing)
}

// brokenLink says where a link that leads nowhere points: the common end of a
// virtual environment whose Python was upgraded away.
func brokenLink(path string, err error) error {
	if target, errLink := os.Readlink(path); errLink == nil && os.IsNotExist(err) {
		return fmt.Errorf("%s is a link to %s, which is gone; make the virtual environment again", path, target)
	}
	return err
}

// lookPath is exec.LookPath over the PATH of the given environment.
func (c *Cache) lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(c.getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return filepath.Abs(path)
		}
	}
	return "", exec.ErrNotFound
}

// virtualEnv gives the folder of the virtual environment an executable lies in.
func virtualEnv(executable string) string {
	dir := filepath.Dir(filepath.Dir(executable))
	if _, err := os.Stat(filepath.Join(dir, "pyvenv.cfg")); err != nil {
		return ""
	}
	return dir
}

// errTooOld is told apart because another interpreter on the PATH may do.
var errTooOld = errors.New("too old")

func (in *Interpreter) suitable() error {
	switch {
	case in.Implementation != "cpython":
		return fmt.Errorf("is %s %s; workers run on CPython 3.%d or newer", in.Implementation, in.VersionText(), OldestPython)
	case in.Version[0] != 3 || in.Version[1] < OldestPython:
		return fmt.Errorf("CPython %s is %w; workers need 3.%d or newer", in.VersionText(), errTooOld, OldestPython)
	case in.FreeThreaded:
		return fmt.Errorf("CPython %s is a free-threaded build, which is not supported yet; use the ordinary build, with the GIL", in.VersionText())
	}
	return nil
}

// suggest adds to an error about an old interpreter the newer one that the PATH has.
func (c *Cache) suggest(err error) error {
	if !errors.Is(err, errTooOld) {
		return err
	}
	for minor := OldestPython + 9; minor >= OldestPython; minor-- {
		name := fmt.Sprintf("python3.%d", minor)
		if path, errLook := c.lookPath(name); errLook == nil && !isScript(path) {
			return fmt.Errorf("%w; %s is on the PATH: use --python %s, or a virtual environment made with it", err, path, name)
		}
	}
	return err
}

// probe runs the interpreter once and remembers what it said for as long as the
// file is the same. A script (a pyenv shim) chooses anew each time, so it is asked
// each time.
func (c *Cache) probe(ctx context.Context, path string) (*Interpreter, error) {
	key, err := fileKey(path)
	if err != nil {
		return nil, err
	}
	cached := filepath.Join(c.dir, "interpreters", key+".json")
	script := isScript(path)
	if data, err := os.ReadFile(cached); err == nil && !script {
		in := &Interpreter{}
		if err := json.Unmarshal(data, in); err == nil && in.Executable != "" {
			return in, nil
		}
	}
	data, err := c.run(ctx, path, "-I", "-S", "-c", probeScript)
	if err != nil {
		return nil, err
	}
	in := &Interpreter{}
	if err := json.Unmarshal(data, in); err != nil {
		return nil, fmt.Errorf("answered %q instead of what it is; is it a Python?", firstLine(data))
	}
	if !script {
		if err := c.writeFile(cached, data, 0o600); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// run runs the interpreter for a short question and gives its standard output.
func (c *Cache) run(ctx context.Context, path string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = c.environ
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if line := lastLine(errOut.Bytes()); line != "" {
			return nil, fmt.Errorf("cannot be run: %w: %s", err, line)
		}
		return nil, fmt.Errorf("cannot be run: %w", err)
	}
	return out.Bytes(), nil
}

// fileKey changes when the file behind a path does.
func fileKey(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("%s\n%s\n%d\n%d\n%s", path, real, info.Size(), info.ModTime().UnixNano(), probeScript)
	sum := sha256.Sum256([]byte(seen))
	return hex.EncodeToString(sum[:16]), nil
}

func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	var start [2]byte
	_, err = io.ReadFull(f, start[:])
	return errors.Join(err, f.Close()) == nil && string(start[:]) == "#!"
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

func lastLine(b []byte) string {
	text := strings.TrimSpace(string(b))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
