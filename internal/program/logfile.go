package program

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"

	"github.com/guado-server/guado/internal/supervise"
)

// LogFile is where a stream of a program goes. Without a path it is the host's output.
type LogFile struct {
	Path     string
	Size     int64 // it is rotated over this; 0: never
	Keep     int   // rotated files; 0: all
	Days     int   // rotated files older than this go; 0: none
	Compress string
}

// discard is the path of a log that nobody wants.
const discard = "/dev/null"

// sink makes what a stream is written to. Streams with one path share a file.
func (s *Set) sink(l LogFile, host *supervise.Lines, spec *Spec) sink {
	switch {
	case l.Path == "":
		return newHostOutput(host, spec.Name, spec.OutputLimit)
	case l.Path == discard:
		return nowhere{}
	case s.files[l.Path] == nil:
		s.files[l.Path] = newLogFile(l)
	}
	return s.files[l.Path]
}

// hostOutput passes lines on to the host's output, no more than so many a second. It
// serves one stream, so one goroutine at a time uses it.
type hostOutput struct {
	lines *supervise.Lines
	name  string
	limit float64 // lines a second; 0: none

	tokens  float64
	filled  time.Time
	dropped int
}

// burst is how many seconds' worth of lines may come at once.
const burst = 5

func newHostOutput(lines *supervise.Lines, name string, limit int) *hostOutput {
	return &hostOutput{lines: lines, name: name, limit: float64(limit), tokens: float64(burst * limit), filled: time.Now()}
}

func (o *hostOutput) writeLine(line []byte) error {
	if !o.passes(time.Now()) {
		o.dropped++
		return nil
	}
	if o.dropped > 0 {
		told := fmt.Sprintf("(guado: %d lines suppressed, over output_limit)\n", o.dropped)
		o.dropped = 0
		if err := o.pass([]byte(told)); err != nil {
			return err
		}
	}
	return o.pass(line)
}

func (o *hostOutput) pass(line []byte) error { return o.lines.Write(o.name, o.name+" | ", line) }

// passes takes a token for a line.
func (o *hostOutput) passes(now time.Time) bool {
	if o.limit <= 0 {
		return true
	}
	o.tokens = min(o.tokens+now.Sub(o.filled).Seconds()*o.limit, burst*o.limit)
	o.filled = now
	if o.tokens < 1 {
		return false
	}
	o.tokens--
	return true
}

type nowhere struct{}

func (nowhere) writeLine([]byte) error { return nil }

// logFile is a file that is rotated.
type logFile struct {
	path  string
	fresh func() *timberjack.Logger

	mu sync.Mutex // guards to, and serialises what is written to it
	to *timberjack.Logger
}

const megabyte = 1 << 20

func newLogFile(l LogFile) *logFile {
	f := &logFile{path: l.Path, fresh: func() *timberjack.Logger {
		size := math.MaxInt32 // of megabytes: never
		if l.Size > 0 {
			size = int((l.Size + megabyte - 1) / megabyte)
		}
		return &timberjack.Logger{
			Filename: l.Path, MaxSize: size, MaxBackups: l.Keep, MaxAge: l.Days, Compression: l.Compress,
			LocalTime: true,
		}
	}}
	f.to = f.fresh()
	return f
}

func (f *logFile) writeLine(line []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.to.Write(line)
	return err
}

// reopen lets another program rotate the file: what comes next goes to a new one when
// the old one was moved away.
func (f *logFile) reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.to.Close()
	f.to = f.fresh() // a closed one does not rotate any more
	return err
}

func (f *logFile) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to.Close()
}
