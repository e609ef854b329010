package genropy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// process is one of a stack, as /proc tells.
type process struct {
	pid, parent int
	command     string // its arguments, with spaces between
	dir         string
	cpu         time.Duration // of itself
}

// descendants are all processes below root, those nearest to it first.
func descendants(t *testing.T, root int) []process {
	t.Helper()
	children := map[int][]process{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		if p, ok := read(file); ok {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	all := append([]process{}, children[root]...)
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// read reads one process; false when it has ended meanwhile.
func read(file string) (p process, ok bool) {
	stat, err := os.ReadFile(file)
	if err != nil {
		return p, false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // from the third on: state, parent …
	if len(fields) < 13 || fields[0] == "Z" {
		return p, false
	}
	folder := filepath.Dir(file)
	p.pid, _ = strconv.Atoi(filepath.Base(folder)) // digits, says the pattern
	p.parent, _ = strconv.Atoi(fields[1])
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	p.cpu = time.Duration(user+system) * 10 * time.Millisecond // a tick of Linux
	line, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	if err != nil {
		return p, false
	}
	p.command = string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
	p.dir, _ = os.Readlink(filepath.Join(folder, "cwd")) // empty when it ends just now
	return p, true
}

// find gives the id of the first process of the stack that is the one meant, and 0
// while there is none.
func (s *stack) find(t *testing.T, is func(process) bool) int {
	t.Helper()
	for _, p := range descendants(t, s.root) {
		if is(p) {
			return p.pid
		}
	}
	return 0
}

// runs tells the processes that run a command.
func runs(command string) func(process) bool {
	return func(p process) bool { return strings.Contains(p.command, command) }
}

// cpu is what all processes of the stack have used.
func (s *stack) cpu(t *testing.T) time.Duration {
	t.Helper()
	root, ok := read(fmt.Sprintf("/proc/%d/stat", s.root))
	if !ok {
		t.Fatalf("%s has ended", s.name)
	}
	sum := root.cpu
	for _, p := range descendants(t, s.root) {
		sum += p.cpu
	}
	return sum
}
