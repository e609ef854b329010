package http1

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/exchange"
)

// maxSend is the most that one sendfile(2) moves.
const maxSend = 0x7ffff000

// sendFile sends the range with sendfile(2) at an explicit offset. io.Copy, which
// would also end in sendfile, reads at the file's own offset.
func (a *answer) sendFile(f exchange.File, offset, count int64) error {
	if err := a.Flush(); err != nil {
		return err
	}
	var failed error
	c, src := a.c, int(f.Fd())
	c.wr.enter(writing, c.tick())
	err := c.raw.Write(func(dst uintptr) (done bool) {
		for count > 0 {
			n, err := unix.Sendfile(int(dst), src, &offset, int(min(count, maxSend)))
			switch {
			case n > 0:
				count -= int64(n)
				if c.wr.enter(writing, c.tick()).expired() {
					failed = errSlowReader
					return true
				}
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return false
			default:
				failed = err
				return true
			}
		}
		return true
	})
	runtime.KeepAlive(f)
	if err = c.wrote(err); err != nil {
		return a.failed(err)
	}
	switch {
	case count == 0:
		return nil
	case failed == nil || errors.Is(failed, unix.EIO):
		return a.fileFailed(failed)
	case errors.Is(failed, unix.EINVAL) || errors.Is(failed, unix.ENOSYS):
		// The file's file system has no sendfile.
		return a.copyFile(f, offset, count)
	}
	return a.failed(failed)
}
