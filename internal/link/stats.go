package link

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"sync"
	"time"
)

// Stats is what a worker tells of itself at each heartbeat.
type Stats struct {
	// GILWaits counts the requests whose thread had to get the GIL first, as all do;
	// GILWait is how long that took in all. They only grow.
	GILWaits uint64
	GILWait  time.Duration
	// LoopLag is how late the event loop came at the last heartbeat, or is by now.
	LoopLag time.Duration
	// Still is for how long no thread of the worker's own could run Python: it takes the
	// GIL every second.
	Still time.Duration
	At    time.Time // when the worker said so; zero: never
}

// maxStats bounds a STATS message, which is one frame.
const maxStats = 4 << 10

// stats keeps the last message.
type stats struct {
	mu   sync.Mutex // guards last
	last Stats
}

func (s *stats) frame(h header, p shared) error {
	if p.len() > maxStats || h.flags != 0 {
		return corrupt("STATS of %d bytes with flags 0x%02x", p.len(), uint8(h.flags))
	}
	var said struct {
		GILWaits  uint64 `json:"gil_waits"`
		GILWaitUS uint64 `json:"gil_wait_us"`
		LoopLagUS uint64 `json:"loop_lag_us"`
		StillUS   uint64 `json:"python_still_us"`
	}
	if err := json.Unmarshal(bytes.Clone(p.b), &said); err != nil {
		return corrupt("STATS is no JSON of figures: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = Stats{
		GILWaits: said.GILWaits, GILWait: micros(said.GILWaitUS), LoopLag: micros(said.LoopLagUS), Still: micros(said.StillUS), At: time.Now(),
	}
	return nil
}

// micros does not overflow, whatever a worker says.
func micros(us uint64) time.Duration { return time.Duration(min(us, 1<<50)) * time.Microsecond }

// Stats is what the worker told last.
func (l *Link) Stats() Stats {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()
	return l.stats.last
}

// heartbeat is the payload of PING.
func heartbeat() []byte {
	now, ok := monotonic()
	if !ok {
		return nil
	}
	return binary.LittleEndian.AppendUint64(nil, uint64(now.Microseconds()))
}
