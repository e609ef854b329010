package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What a server needs of descriptors and threads beside its connections and workers.
const (
	ownFiles     = 1024
	workerFiles  = 32 // link, pipes, files on their way
	leastFiles   = 1024
	ownThreads   = 64
	otherThreads = 40 // of a worker: main, watch, and those of the loop's executor
)

func (e *exam) limits(context.Context) {
	e.openFiles()
	e.processes()
	e.cgroup()
	if n, err := strconv.Atoi(firstLine("/proc/sys/net/core/somaxconn")); err == nil {
		const enough = 1024
		value := fmt.Sprintf("%d connections may wait to be accepted (net.core.somaxconn)", n)
		if n < enough {
			e.find(Warn, "backlog", value, "sysctl -w net.core.somaxconn=4096, and a file in /etc/sysctl.d: more connections at once are refused")
		} else {
			e.ok("backlog", value)
		}
	}
}

// crew counts what the configuration starts.
func (e *exam) crew() (workers, threads int) {
	for i := range e.Config.Groups {
		g := &e.Config.Groups[i]
		workers += g.Workers
		threads += g.Workers * (g.Threads + otherThreads)
	}
	for i := range e.Config.Executors {
		workers += e.Config.Executors[i].Processes
		threads += e.Config.Executors[i].Processes * otherThreads
	}
	for i := range e.Config.Programs {
		threads += e.Config.Programs[i].Instances // of which nobody knows more
	}
	return workers, threads + ownThreads
}

func (e *exam) openFiles() {
	limit, ok := e.limit("Max open files")
	if !ok {
		return
	}
	workers, _ := e.crew()
	need := e.Config.Server.Limits.Connections + workers*workerFiles + ownFiles
	value := fmt.Sprintf("%s may be open, %d are wanted for %d connections", spell(limit), need, e.Config.Server.Limits.Connections)
	advice := fmt.Sprintf("LimitNOFILE=%d in the unit (guado service writes it), ulimit -n, or --ulimit nofile of a container; or lower server.limits.connections", 2*need)
	switch {
	case limit < leastFiles:
		e.find(Fail, "open files", value, advice)
	case limit < uint64(need):
		e.find(Warn, "open files", value, advice)
	default:
		e.ok("open files", value)
	}
	if e.Running == nil {
		return
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.pid()))
	if err != nil {
		e.find(Warn, "descriptors", "cannot be counted: "+err.Error(), "run guado doctor as the account of the server, or as root")
		return
	}
	const alarm = 0.8
	value = fmt.Sprintf("%d of %s are open", len(entries), spell(limit))
	if float64(len(entries)) > alarm*float64(limit) {
		e.find(Warn, "descriptors", value, advice)
	} else {
		e.ok("descriptors", value)
	}
}

func (e *exam) processes() {
	_, threads := e.crew()
	advice := "TasksMax= in the unit, ulimit -u, or --pids-limit of a container; or fewer workers and threads"
	judge := func(check string, limit uint64, used int) {
		value := fmt.Sprintf("%s may run, %d are in use, about %d are wanted", spell(limit), used, threads)
		if e.Running != nil {
			threads = 0 // those are in use already
		}
		if limit < uint64(used+threads) {
			e.find(Warn, check, value, advice)
		} else {
			e.ok(check, value)
		}
	}
	if folder := cgroupOf(e.pid()); folder != "" {
		if limit, used, ok := counted(folder, "pids"); ok {
			judge("processes of the cgroup", limit, used)
		}
	}
	if limit, ok := e.limit("Max processes"); ok {
		if e.who.uid == 0 {
			e.ok("processes of the account", "no limit for root")
			return
		}
		judge("processes of the account", limit, threadsOf(e.who.uid))
	}
}

// cgroup tells how much memory there is, and whether workers get cgroups of their own.
func (e *exam) cgroup() {
	folder := cgroupOf(e.pid())
	if folder == "" {
		return
	}
	limit, _, ok := counted(folder, "memory")
	if !ok {
		return
	}
	var wanted uint64
	for i := range e.Config.Groups {
		wanted += uint64(e.Config.Groups[i].Workers) * uint64(e.Config.Groups[i].MemoryHard.Bytes())
	}
	value := "no limit"
	if limit != unlimited {
		value = human(limit) + " (memory.max)"
	}
	if wanted > limit {
		e.find(Warn, "memory of the cgroup", fmt.Sprintf("%s; workers may grow to %s together", value, human(wanted)), "raise MemoryMax= of the unit, or lower memory_hard: the kernel kills at its limit, and chooses itself")
		return
	}
	e.ok("memory of the cgroup", value)
}

const unlimited = ^uint64(0)

func spell(limit uint64) string {
	if limit == unlimited {
		return "any number"
	}
	return strconv.FormatUint(limit, 10)
}

func human(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(n), 0
	const step = 1024
	for size >= step && unit < len(units)-1 {
		size, unit = size/step, unit+1
	}
	return fmt.Sprintf("%.4g %s", size, units[unit])
}

// limit reads a limit of the process. A Go program raises its soft limit of files to the
// hard one itself, so that is what counts.
func (e *exam) limit(name string) (uint64, bool) {
	process := "self"
	if e.Running != nil {
		process = strconv.Itoa(e.pid())
	}
	text, err := os.ReadFile("/proc/" + process + "/limits")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if fields := strings.Fields(rest); ok && len(fields) > 1 {
			if fields[1] == "unlimited" {
				return unlimited, true
			}
			n, err := strconv.ParseUint(fields[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// counted reads the limit and the use of a resource in the nearest cgroup that limits it.
func counted(folder, what string) (limit uint64, used int, ok bool) {
	for dir := folder; strings.HasPrefix(dir, "/sys/fs/cgroup"); dir = filepath.Dir(dir) {
		text := firstLine(filepath.Join(dir, what+".max"))
		if text == "" {
			continue
		}
		used, _ = strconv.Atoi(firstLine(filepath.Join(dir, what+".current"))) // 0 where it is not told
		if text == "max" {
			limit, ok = unlimited, true // one above may have one
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		return n, used, err == nil
	}
	return limit, used, ok
}

func firstLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// statusField reads /proc/PID/status.
func statusField(pid int, name string) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// threadsOf counts the threads of an account, as its limit does.
func threadsOf(uid int) (n int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if real, _, _ := strings.Cut(statusField(pid, "Uid"), "\t"); real == strconv.Itoa(uid) {
			if threads, err := strconv.Atoi(statusField(pid, "Threads")); err == nil {
				n += threads
			}
		}
	}
	return n
}
