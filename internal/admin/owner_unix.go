//go:build unix

package admin

import (
	"io/fs"
	"os"
	"syscall"
)

// isOurs reports whether the file belongs to this process's account.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
