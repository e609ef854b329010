// Package phase is the way from a site with a state daemon to resident pages: which phases there
// are, in which order, and by what one sees that a step was a good one.
// Before it: whoever asks (the admin interface, guado migrate), with what the host knows of itself.
// After it: nothing.
// Not here: what a phase turns on (the root package, by server.phase), the steps themselves.
package phase

import "slices"

// Order are the phases, each a step from the one before it.
var Order = []int{0, 3, 4, 5, 6}

// What a phase is, in a few words.
var words = map[int]string{
	0: "one entry point: the application as it is",
	3: "users, connections and pages are known, and pages hear of events",
	4: "registers and stores are in process; no state daemon",
	5: "pages are resident: HTTP and WebSocket meet the same object",
	6: "resident, and verified while it runs",
}

// Words says what a phase is.
func Words(phase int) string { return words[phase] }

// Next is the phase behind one; false: there is none.
func Next(phase int) (int, bool) { return beside(phase, 1) }

// Before is the phase before one; false: there is none.
func Before(phase int) (int, bool) { return beside(phase, -1) }

func beside(phase, by int) (int, bool) {
	i := slices.Index(Order, phase)
	if i < 0 || i+by < 0 || i+by >= len(Order) {
		return 0, false
	}
	return Order[i+by], true
}

// Facts are what a host knows of itself.
type Facts struct {
	Phase     int
	Phases    bool     // its phase stands in a file, and can be another one
	Apps      int      // that are mounted
	Missing   []string // why some group cannot answer
	Answered  uint64   // requests, by workers
	Wrong     uint64   // of these, with a status of 5xx
	Lost      uint64   // requests that were with a worker when it died
	Deaths    uint64   // of workers
	Executors int
	Sockets   uint64 // WebSockets that were opened

	StateGroup   string // that has the pages, or the only one; empty: it is not said
	StateWorkers int
	StateThreads int // that run requests; 0: an event loop
	Register     bool
	Handed       Handed // what went from one register into the other last
	Programs     []string

	Pages   int    // now
	Opened  uint64 // pages
	Heard   uint64 // pages whose client has acknowledged a push
	Objects int64  // of resident pages
	Classes int
	Turns   uint64
	Busy    uint64 // messages that found a mailbox full

	// Since pages are resident.
	Used   uint64 // turns
	Faults uint64 // of these: that have failed without an answer of the application
	Met    uint64 // objects that requests as well as messages have reached

	Commits uint64
	Stale   uint64
	Bytes   int64 // of all stores
	Limit   int64
	Memory  int64 // resident, of the worker with the state; 0: not known

	Compared    uint64 // stores, with the host's copy
	Differences uint64
	First       string // where one is
}

// Handed is what became of the items that went from one register into the other.
type Handed struct {
	Known       bool
	Items       int
	Refused     int
	Differences int
	Error       string
}
