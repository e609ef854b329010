package child

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupTree is where the unified hierarchy is, which a mixed system has beside the
// old ones.
func cgroupTree() string {
	if _, err := os.Stat(cgroupRoot + "/cgroup.controllers"); err != nil {
		return cgroupRoot + "/unified"
	}
	return cgroupRoot
}

// delegated gives the cgroup that a service manager handed over to this process
// (systemd: Delegate=yes); empty when there is none. Another one, though it could be
// written to, is not ours to divide.
func delegated() string {
	if folder, is := Cgroup(0); is {
		return folder
	}
	return ""
}

// Cgroup gives the folder of a process's cgroup (version 2), and whether a service
// manager handed it over. 0 is this process; the folder is empty where there is none.
func Cgroup(pid int) (folder string, handedOver bool) {
	text, err := os.ReadFile("/proc/" + self(pid) + "/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		folder = filepath.Join(cgroupTree(), path)
		if _, err := os.Stat(filepath.Join(folder, "cgroup.procs")); err != nil {
			return "", false // version 1 alone
		}
		for _, name := range []string{"user.delegate", "trusted.delegate"} {
			var value [8]byte
			if n, err := unix.Getxattr(folder, name, value[:]); err == nil && string(value[:n]) == "1" {
				return folder, path != "/"
			}
		}
	}
	return folder, false
}

// OOMCounter gives the file in which the kernel counts what it kills for want of memory
// among the processes of pid's cgroup; 0 is this process.
func OOMCounter(pid int) string { return oomCounter(pid) }

func self(pid int) string {
	if pid == 0 {
		return "self"
	}
	return strconv.Itoa(pid)
}
