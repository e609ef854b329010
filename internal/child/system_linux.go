package child

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/guard"
)

var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
	"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC,
	"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
	"stack": unix.RLIMIT_STACK,
}

func rlimValue(v uint64) uint64 { return v } // RLIM_INFINITY is all ones

// selfPath is this program's file even when it was replaced or removed on disk.
func selfPath() (string, error) { return "/proc/self/exe", nil }

func setOOMScore(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0o600)
}

// dieWithParent asks for a signal at the host's death; 0: for none.
func dieWithParent(sig int) error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(sig), 0, 0, 0) }

func nameProcess(name string) {
	text := append([]byte(name), 0)
	// Only the process list loses by a failure.
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&text[0])), 0, 0, 0)
}

// attributes: own, a process group of its own, so that signals reach what the
// application forks, and the terminal's do not reach it. A child that would outlive
// its host before the guard knows it is killed by the kernel.
func attributes(own bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: own, Pdeathsig: syscall.SIGKILL}
}

func useCgroup(attr *syscall.SysProcAttr, folder *os.File) {
	attr.UseCgroupFD, attr.CgroupFD = true, int(folder.Fd())
}

// awaitExit waits for the end of a child and leaves it to be reaped: until then no
// other process or group gets its id. false: it cannot wait like that.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// adopts reports whether orphans become children of this process.
func adopts() bool {
	var is int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&is)), 0, 0, 0)
	return os.Getpid() == 1 || err == nil && is != 0
}

// zombies lists children that have ended and wait to be reaped.
func zombies() (pids []int) {
	// Without one there is nothing to look for, which is the rule.
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Signo == 0 {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// "PID (name) state parent …": the name may hold anything
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

func groupLives(group int) bool { return guard.GroupLives(group) }

func reapOne(pid int) (status syscall.WaitStatus, ok bool) {
	n, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	return status, err == nil && n == pid
}

// oomCounter finds the file in which the kernel counts what it killed for want of
// memory among the processes of pid's cgroup: version 2, version 1, or the whole machine.
func oomCounter(pid int) string {
	text, err := os.ReadFile("/proc/" + self(pid) + "/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case parts[0] == "0":
			if file := upwards(cgroupTree(), parts[2], "memory.events"); file != "" {
				return file
			}
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			if file := upwards(cgroupRoot+"/memory", parts[2], "memory.oom_control"); file != "" {
				return file
			}
		}
	}
	return "/proc/vmstat"
}

// upwards finds a file in a cgroup or the nearest one above it that has it.
func upwards(tree, path, name string) string {
	for ; ; path = filepath.Dir(path) {
		file := filepath.Join(tree, path, name)
		if _, err := os.Stat(file); err == nil {
			return file
		}
		if path == "/" || path == "." {
			return ""
		}
	}
}

// oomKills reads such a counter.
func oomKills(file string) int {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err == nil {
				return n
			}
		}
	}
	return 0
}
