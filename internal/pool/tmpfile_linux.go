package pool

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// unnamedFile never has a name where the file system knows O_TMPFILE, so that a
// kill at any moment leaves nothing behind.
func unnamedFile(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return removedFile(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("spool file in %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir+"/(spool)"), nil
}
