package link

import (
	"fmt"
	"sync"
)

// Bounds of what a worker can make the host keep for its log.
const (
	maxLogBytes = 1 << 20   // of messages that wait for the sink
	maxLogText  = 256 << 10 // of one message; the rest is cut
	maxLogOpen  = 64        // messages under reassembly
)

// logs hands LOG messages to a sink in a goroutine of its own, for the reader must
// not wait for a disk. When the sink is too slow messages are dropped and counted.
type logs struct {
	mu      sync.Mutex // guards below
	news    sync.Cond
	sink    func(LogMessage)
	name    func(stream uint32) string
	queue   []LogMessage
	bytes   int
	dropped int
	partial map[uint32][]byte
	failed  map[uint32]string // last error of each stream; nil: they are not kept
	closed  bool
	owner   sync.WaitGroup
}

// LogMessage is what a worker logged.
type LogMessage struct {
	Stream uint32 // of the exchange; 0: none
	Name   string // of the exchange, from Logs' function; it was asked when the message came
	Level  int
	Text   string
}

// Levels of a LOG message.
const (
	LogDebug = iota
	LogInfo
	LogWarning
	LogError
)

// start sets the sink and begins to hand messages to it.
func (g *logs) start(name func(stream uint32) string, sink func(LogMessage)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	first := g.sink == nil
	g.sink, g.name = sink, name
	if first {
		g.owner.Go(g.run)
	}
}

// nameOf names the exchange now, while it surely goes on: by the time the sink runs,
// the ABORT behind the message may have ended it. It is not under mu, for it asks
// another part.
func (g *logs) nameOf(h header) string {
	g.mu.Lock()
	name := g.name
	g.mu.Unlock()
	if h.stream == 0 || h.flags&More != 0 || name == nil {
		return ""
	}
	return name(h.stream)
}

func (g *logs) frame(h header, p shared) error {
	name := g.nameOf(h)
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.arg > LogError {
		return corrupt("LOG of level %d", h.arg)
	}
	if h.flags&^More != 0 {
		return corrupt("LOG with flags 0x%02x", uint8(h.flags))
	}
	text := g.partial[h.stream]
	if room := maxLogText - len(text); room > 0 {
		text = append(text, p.b[:min(room, p.len())]...)
	}
	if h.flags&More != 0 && (len(g.partial) < maxLogOpen || g.partial[h.stream] != nil) {
		if g.partial == nil {
			g.partial = make(map[uint32][]byte)
		}
		g.partial[h.stream] = text
		return nil
	}
	delete(g.partial, h.stream)
	if h.arg == LogError && g.failed != nil && h.stream != 0 {
		if len(g.failed) >= maxLogOpen {
			clear(g.failed) // of streams that nobody asked about
		}
		g.failed[h.stream] = string(text)
	}
	if g.closed || g.bytes+len(text) > maxLogBytes {
		g.dropped++
		return nil
	}
	g.bytes += len(text) + 64 // the line itself, so that empty ones are bounded too
	g.queue = append(g.queue, LogMessage{h.stream, name, int(h.arg), string(text)})
	g.news.Signal()
	return nil
}

// takeError gives the last error that a stream logged, for who shows it to the client.
func (g *logs) takeError(stream uint32) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	text := g.failed[stream]
	delete(g.failed, stream)
	return text
}

// LoggedError is the traceback that the worker logged for this exchange before it
// ended it; always empty without Options.KeepErrors.
func (s *Stream) LoggedError() string { return s.l.logs.takeError(s.id.Load()) }

// run hands messages over until close, and then those that are left.
func (g *logs) run() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		for len(g.queue) == 0 && g.dropped == 0 && !g.closed {
			g.news.Wait()
		}
		lines, dropped, sink := g.queue, g.dropped, g.sink
		g.queue, g.bytes, g.dropped = nil, 0, 0
		if len(lines) == 0 && dropped == 0 {
			return
		}
		g.mu.Unlock()
		for _, n := range lines {
			sink(n)
		}
		if dropped > 0 {
			sink(LogMessage{Level: LogWarning, Text: fmt.Sprintf("%d log messages of the worker were dropped: it logs faster than they can be written", dropped)})
		}
		g.mu.Lock()
	}
}

func (g *logs) close() {
	g.mu.Lock()
	g.closed = true
	g.news.Signal()
	g.mu.Unlock()
	g.owner.Wait()
}
