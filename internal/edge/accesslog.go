package edge

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// LogFormat is the form of a line of the access log.
type LogFormat uint8

const (
	// LogCombined is the format of Apache and nginx.
	LogCombined LogFormat = iota
	// LogJSON is one object a line.
	LogJSON
	// LogExtended is LogCombined with the request id, the app, the worker and the times.
	LogExtended
)

// AccessLog says where the access log goes: to Writer, or else to the file Path, which
// [Server.ReopenLog] opens again.
type AccessLog struct {
	Path   string // "-": standard output
	Writer io.Writer
	Format LogFormat
}

const (
	logFlushEvery = time.Second
	logFlushBytes = 64 << 10
	// A disk that stands still must not stop the server: lines beyond this are dropped
	// and counted.
	logHoldBytes = 4 << 20
)

// accessLog collects lines; its one goroutine writes them, at most a second later.
type accessLog struct {
	format func(*lastLine, []byte, *exchange.Exchange, exchange.Outcome) []byte
	path   string // empty: the writer is not ours to open
	log    *slog.Logger

	mu      sync.Mutex // guards the next five
	lines   []byte
	last    lastLine
	dropped int
	full    bool // the goroutine was told
	closed  bool

	writing sync.Mutex // guards out and file; after mu, never held with it
	out     io.Writer
	file    *os.File // ours to close

	some chan struct{} // lines has become non-empty
	much chan struct{} // lines has passed logFlushBytes
	stop chan struct{}
	done chan struct{}
}

func newAccessLog(o *AccessLog, log *slog.Logger) (*accessLog, error) {
	a := &accessLog{
		format: appendCombined, log: log, out: o.Writer,
		some: make(chan struct{}, 1), much: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	switch o.Format {
	case LogJSON:
		a.format = appendJSON
	case LogExtended:
		a.format = appendExtended
	}
	switch {
	case a.out != nil:
	case o.Path == "-":
		a.out = os.Stdout
	case o.Path != "":
		a.path = o.Path
		if err := a.reopen(); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("access log: neither a path nor a writer")
	}
	go a.run()
	return a, nil
}

// write adds the line of an exchange that has ended; false when the log is closed.
func (a *accessLog) write(x *exchange.Exchange, out exchange.Outcome) bool {
	a.mu.Lock()
	if a.closed || len(a.lines) > logHoldBytes {
		a.dropped++
		closed := a.closed
		a.mu.Unlock()
		return !closed
	}
	first := len(a.lines) == 0
	a.lines = a.format(&a.last, a.lines, x, out)
	full := len(a.lines) >= logFlushBytes && !a.full
	a.full = a.full || full
	a.mu.Unlock()
	if first {
		wake(a.some)
	}
	if full {
		wake(a.much)
	}
	return true
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run writes a second after the first line, or at once when there are many. Without
// lines it sleeps, and there is no timer.
func (a *accessLog) run() {
	defer close(a.done)
	var spare []byte
	for {
		select {
		case <-a.some:
		case <-a.stop:
			a.flush(spare)
			return
		}
		timer := time.NewTimer(logFlushEvery)
		select {
		case <-timer.C:
		case <-a.much:
		case <-a.stop:
		}
		timer.Stop()
		spare = a.flush(spare)
	}
}

// flush writes what there is and gives its memory back as the next spare.
func (a *accessLog) flush(spare []byte) []byte {
	a.mu.Lock()
	lines, dropped := a.lines, a.dropped
	a.lines, a.dropped, a.full = spare[:0], 0, false
	select {
	case <-a.much:
	default:
	}
	a.mu.Unlock()
	if dropped > 0 {
		a.log.Error("access log: the disk is too slow; lines were dropped", "lines", dropped)
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	if len(lines) > 0 {
		if _, err := a.out.Write(lines); err != nil {
			a.log.Error("access log: lines were lost", "bytes", len(lines), "error", err)
		}
	}
	if cap(lines) > 2*logFlushBytes {
		return nil
	}
	return lines
}

// reopen opens the file again, after log rotation has renamed it.
func (a *accessLog) reopen() error {
	if a.path == "" {
		return nil
	}
	f, err := os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	a.writing.Lock()
	old := a.file
	a.file, a.out = f, f
	a.writing.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			return fmt.Errorf("access log: closing the old file: %w", err)
		}
	}
	return nil
}

// close writes what is left and ends the goroutine; lines that come later are dropped.
func (a *accessLog) close() error {
	a.mu.Lock()
	again := a.closed
	a.closed = true
	a.mu.Unlock()
	if again {
		<-a.done
		return nil
	}
	close(a.stop)
	<-a.done
	a.writing.Lock()
	defer a.writing.Unlock()
	if a.file == nil {
		return nil
	}
	if err := a.file.Close(); err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	return nil
}
