package doctor

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is who opens files: that of the running server, else ours.
type account struct {
	uid    int
	groups []int
}

func (a account) String() string { return userName(a.uid) }

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(uid)
}

func accountOf(r *Running) account {
	if r != nil {
		if a, ok := accountOfProcess(r.PID); ok {
			return a
		}
	}
	a := account{uid: os.Getuid(), groups: []int{os.Getgid()}}
	if more, err := os.Getgroups(); err == nil {
		a.groups = append(a.groups, more...)
	}
	return a
}

// accountOfProcess reads /proc; false where there is none.
func accountOfProcess(pid int) (a account, ok bool) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return a, false
	}
	defer func() { _ = f.Close() }() // only read
	const effective = 1              // behind the real one
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		switch {
		case name == "Uid" && len(fields) > effective:
			if a.uid, err = strconv.Atoi(fields[effective]); err == nil {
				ok = true
			}
		case name == "Gid" || name == "Groups":
			for _, field := range fields {
				if gid, err := strconv.Atoi(field); err == nil {
					a.groups = append(a.groups, gid)
				}
			}
		}
	}
	return a, ok
}

// Permissions, as in the lowest digit of a mode.
const (
	mayRead  = 4
	mayWrite = 2
	mayEnter = 1
)

// may reports whether the account has these permissions by a file's mode. ACLs are not
// looked at: where they say otherwise, so does the first start.
func (a account) may(info fs.FileInfo, want uint32) bool {
	if a.uid == 0 {
		return true
	}
	owner, group := ownerOf(info)
	mode := uint32(info.Mode().Perm())
	switch {
	case owner == a.uid:
		mode >>= 6
	case slices.Contains(a.groups, group):
		mode >>= 3
	}
	return mode&want == want
}

// reach tells what keeps the account from a path: the first folder on the way that it
// cannot enter; empty: nothing.
func (a account) reach(path string) string {
	var way []string
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		way = append(way, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, dir := range slices.Backward(way) {
		if info, err := os.Stat(dir); err == nil && !a.may(info, mayEnter) {
			return dir
		}
	}
	return ""
}

func ownerOf(info fs.FileInfo) (uid, gid int) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid), int(stat.Gid)
	}
	return -1, -1
}

// mode is "0640 root:ssl-cert".
func mode(info fs.FileInfo) string {
	uid, gid := ownerOf(info)
	group := strconv.Itoa(gid)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("%04o %s:%s", info.Mode().Perm(), userName(uid), group)
}
