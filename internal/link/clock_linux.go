package link

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock that host and worker share, which Go does not show.
func monotonic() (time.Duration, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}
