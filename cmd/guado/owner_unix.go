//go:build unix

package main

import (
	"os"
	"syscall"
)

// ownerOf is the account that a file belongs to; -1 where files have none.
func ownerOf(info os.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
