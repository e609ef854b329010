// Package child starts processes that cannot outlive the host, and reaps them: each is
// started through a small first step of this same binary, which sets what only the
// process itself can set and waits until the guard knows of it.
// Before it: supervise (workers) and program. After it: guard, the kernel.
// Not here: when to start, stop or restart one.
package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Child is what is to be started.
type Child struct {
	Path  string   // a file, or a command that is looked for on the PATH of Env
	Argv0 string   // the name it is told to have; empty: the file
	Args  []string // after the name
	Dir   string
	Env   []string // all of it; the spawner adds GUADO_INSTANCE

	Stdin, Stdout, Stderr *os.File   // nil: /dev/null. The caller closes its copies after Spawn
	Files                 []*os.File // descriptors 3, 4, …

	// Terminal leaves it in the host's process group, so that it can read from the
	// terminal. Otherwise it leads a group of its own.
	Terminal bool

	Identity    *Identity // nil: the host's
	Umask       *int
	Rlimits     []Rlimit
	OOMScoreAdj *int // Linux

	// Grace is how long it may take to end when the host was killed: it is asked to by
	// Ask (0: SIGTERM), alone or with its group. 0: SIGKILL at once.
	Grace    time.Duration
	Ask      syscall.Signal
	AskAlone bool
	// Name names its cgroup, where the host was given a cgroup tree of its own.
	Name string
}

// Rlimit is a resource limit of a process.
type Rlimit struct {
	Name       string // "nofile"; see [RlimitNames]
	Soft, Hard uint64 // [Unlimited]: none
}

// Unlimited is the value of a limit that is none.
const Unlimited = ^uint64(0)

var errNoShim = errors.New("user, group, umask, rlimits and oom_score_adj are set by a first step of the program itself, " +
	"which must call guado.Child at the start of its main")

// special reports whether the child asks for something that only its first step can do.
func (c *Child) special() bool {
	return c.Identity != nil || c.Umask != nil || len(c.Rlimits) > 0 || c.OOMScoreAdj != nil
}

// Find gives the file to execute: a bare word is a command.
func (c *Child) Find() (string, error) {
	if c.Path == "" {
		return "", errors.New("no command")
	}
	if strings.ContainsRune(c.Path, '/') {
		return c.Path, nil
	}
	path := ""
	for _, variable := range c.Env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(c.Dir, dir)
		}
		file := filepath.Join(dir, c.Path)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &NoCommandError{Command: c.Path, Path: path}
}

// NoCommandError is the error about a command that is nowhere.
type NoCommandError struct {
	Command, Path string // Path: where it was looked for; empty where Command says it
}

func (e *NoCommandError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("there is no command %q", e.Command)
	}
	return fmt.Sprintf("there is no command %q on the PATH", e.Command)
}

// Is makes it an [exec.ErrNotFound] for those who do not know this package.
func (e *NoCommandError) Is(target error) bool { return target == exec.ErrNotFound }
