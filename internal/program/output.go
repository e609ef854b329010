package program

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxLine bounds a line of output; what is longer goes out in pieces.
	maxLine = 64 << 10
	// keptLines is how many lines of a program are remembered.
	keptLines = 200
	// shownLines is how many of them the log shows when a program fails.
	shownLines = 20
	// outputGrace is how long output is read after its process has ended: one that was
	// left behind may hold the pipe open for ever.
	outputGrace = 500 * time.Millisecond
)

// The streams of a process.
const (
	streamOut = "stdout"
	streamErr = "stderr"
)

// Line is a line of a program's output.
type Line struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // "stdout" or "stderr"
	Text   string    `json:"text"`
}

// sink takes whole lines, each with its newline.
type sink interface{ writeLine(line []byte) error }

// journal is where the output of a program goes: to a file or the host's output, to
// the last lines, and to who waits for a line.
type journal struct {
	sinks map[string]sink
	seen  func(stream, line string) // of what does not go to the host's output
	log   *slog.Logger

	mu      sync.Mutex // guards all below; memory only
	last    []Line     // a ring once it is full
	next    int
	total   int // lines ever
	begun   int // of them, before the process that runs, or ran last
	pattern *regexp.Regexp
	found   chan struct{}
	broken  bool // the sink's error was told
}

func newJournal(out, errOut sink, seen func(stream, line string), log *slog.Logger) *journal {
	return &journal{sinks: map[string]sink{streamOut: out, streamErr: errOut}, seen: seen, log: log}
}

// add files one line, which ends with a newline.
func (j *journal) add(stream string, line []byte) {
	err := j.sinks[stream].writeLine(line)
	l := Line{Time: time.Now(), Stream: stream, Text: strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "\uFFFD")}
	if !j.passes(stream) {
		j.seen(stream, l.Text)
	}
	j.mu.Lock()
	j.total++
	if len(j.last) < keptLines {
		j.last = append(j.last, l)
	} else {
		j.last[j.next] = l
		j.next = (j.next + 1) % keptLines
	}
	if j.pattern != nil && j.pattern.MatchString(l.Text) {
		close(j.found)
		j.pattern = nil
	}
	tell := err != nil && !j.broken
	j.broken = err != nil
	j.mu.Unlock()
	if tell {
		j.log.Error("output of a program cannot be written; it is dropped until that is mended", "error", err)
	}
}

// passes reports whether a stream goes to the host's output.
func (j *journal) passes(stream string) bool {
	_, host := j.sinks[stream].(*hostOutput)
	return host
}

// begin is called before each process.
func (j *journal) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.begun = j.total
}

// await gives what is closed when a line matches.
func (j *journal) await(pattern *regexp.Regexp) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pattern, j.found = pattern, make(chan struct{})
	return j.found
}

// forget ends await.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pattern = nil
}

// lines gives the last n lines.
func (j *journal) lines(n int) []Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.linesLocked(n)
}

func (j *journal) linesLocked(n int) []Line {
	all := slices.Concat(j.last[j.next:], j.last[:j.next])
	return all[max(0, len(all)-n):]
}

// tail is the last n lines as one text.
func (j *journal) tail(n int) string { return text(j.lines(n)) }

// told is the last n lines of the last process; unseen: but for those that the host's
// output has already.
func (j *journal) told(n int, unseen bool) string {
	j.mu.Lock()
	lines := j.linesLocked(j.total - j.begun)
	j.mu.Unlock()
	if unseen {
		lines = slices.DeleteFunc(lines, func(l Line) bool { return j.passes(l.Stream) })
	}
	return text(lines[max(0, len(lines)-n):])
}

func text(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// stream is one of a process's streams on its way to the journal.
type stream struct {
	r    *os.File
	done chan struct{}
}

// newStream gives the end for the child, which the caller closes once it has started.
func newStream(j *journal, name string) (*stream, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	s := &stream{r: r, done: make(chan struct{})}
	go s.pass(j, name)
	return s, w, nil
}

func (s *stream) pass(j *journal, name string) {
	defer close(s.done)
	in := bufio.NewReaderSize(s.r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if line[len(line)-1] != '\n' { // too long, or cut short
				line = append(slices.Clone(line), '\n')
			}
			j.add(name, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// close waits for the rest of the output, not for processes that were left behind.
func (s *stream) close() {
	_ = s.r.SetReadDeadline(time.Now().Add(outputGrace)) // a pipe knows deadlines
	<-s.done
	_ = s.r.Close() // nothing is left to be read
}
