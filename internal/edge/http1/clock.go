package http1

import (
	"sync/atomic"
	"time"
)

// tickLength is how coarsely the lane looks at the time.
const tickLength = 100 * time.Millisecond

// clock is the time as the sweeper last saw it: reading the real one several times
// a request is dear in a virtual machine.
type clock struct {
	ticks atomic.Int64
	date  atomic.Pointer[[]byte] // the value of Date
	base  time.Time
	shown int64 // Unix second of date; used by the sweeper alone
}

func (k *clock) tick() int64 { return k.ticks.Load() }

// look brings the clock up to now.
func (k *clock) look(now time.Time) {
	k.ticks.Store(int64(now.Sub(k.base) / tickLength))
	if s := now.Unix(); s != k.shown || k.date.Load() == nil {
		date := now.UTC().AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")
		k.date.Store(&date)
		k.shown = s
	}
}

// ticksOf turns a timeout into ticks such that a wait is never ended early.
func ticksOf(d time.Duration) int64 { return int64((d+tickLength-1)/tickLength) + 1 }
