package observe

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// usage is what a process uses.
type usage struct{ resident, user, system float64 } // bytes, seconds

// clockTicks is USER_HZ, which Linux has fixed for what it shows.
const clockTicks = 100

// usageOf reads /proc; false where there is none, or no such process any more.
func usageOf(pid int) (usage, bool) {
	if pid <= 0 {
		return usage{}, false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return usage{}, false
	}
	// The name in parentheses may hold anything; the fields after it are numbers.
	_, rest, found := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(" "))
	fields := bytes.Fields(rest)
	const user, system, resident = 11, 12, 21 // of proc(5), less the first three
	if !found || len(fields) <= resident {
		return usage{}, false
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(string(fields[i]), 64) // the kernel writes numbers
		return n
	}
	return usage{
		resident: number(resident) * float64(os.Getpagesize()),
		user:     number(user) / clockTicks, system: number(system) / clockTicks,
	}, true
}
