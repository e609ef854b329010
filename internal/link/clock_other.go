//go:build !linux

package link

import "time"

// monotonic: the worker then counts from when PING reached it.
func monotonic() (time.Duration, bool) { return 0, false }
