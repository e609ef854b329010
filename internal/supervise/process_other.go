//go:build !linux

package supervise

import "syscall"

// stackSignal is the twin of _dump_signal in python/guado/worker/interrupt.py.
const stackSignal = syscall.SIGUSR1
