package child

import (
	"os"
	"path/filepath"
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
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok || path == "/" {
			continue
		}
		folder := filepath.Join(cgroupTree(), path)
		for _, name := range []string{"user.delegate", "trusted.delegate"} {
			var value [8]byte
			if n, err := unix.Getxattr(folder, name, value[:]); err == nil && string(value[:n]) == "1" {
				return folder
			}
		}
	}
	return ""
}
