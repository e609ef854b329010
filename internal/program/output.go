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
	// followed is how many lines a follower may be behind before it misses some.
	followed = 1024
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
	Missed int       `json:"missed,omitempty"` // lines before it that a slow follower did not get
}

// sink takes whole lines, each with its newline.
type sink interface{ writeLine(line []byte) error }

// journal is where the output of a program goes: to a file or the host's output, to
// the last lines, to who follows it and to who waits for a line.
type journal struct {
	sinks map[string]sink
	log   *slog.Logger

	mu        sync.Mutex // guards all below; memory only
	last      []Line     // a ring once it is full
	next      int
	followers []*Follower
	pattern   *regexp.Regexp
	found     chan struct{}
	broken    bool // the sink's error was told
}

func newJournal(out, errOut sink, log *slog.Logger) *journal {
	return &journal{sinks: map[string]sink{streamOut: out, streamErr: errOut}, log: log}
}

// add files one line, which ends with a newline.
func (j *journal) add(stream string, line []byte) {
	err := j.sinks[stream].writeLine(line)
	l := Line{Time: time.Now(), Stream: stream, Text: strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "\uFFFD")}
	j.mu.Lock()
	if len(j.last) < keptLines {
		j.last = append(j.last, l)
	} else {
		j.last[j.next] = l
		j.next = (j.next + 1) % keptLines
	}
	for _, f := range j.followers {
		f.offer(l)
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
func (j *journal) tail(n int) string {
	var b strings.Builder
	for _, l := range j.lines(n) {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// Follower receives the lines of a program as they come.
type Follower struct {
	Lines   <-chan Line
	lines   chan Line
	missed  int // guarded by journal.mu
	journal *journal
}

// follow gives the last n lines and then those that come, without a gap.
func (j *journal) follow(n int) ([]Line, *Follower) {
	f := &Follower{lines: make(chan Line, followed), journal: j}
	f.Lines = f.lines
	j.mu.Lock()
	defer j.mu.Unlock()
	j.followers = append(j.followers, f)
	return j.linesLocked(n), f
}

// Close ends it.
func (f *Follower) Close() {
	f.journal.mu.Lock()
	defer f.journal.mu.Unlock()
	f.journal.followers = slices.DeleteFunc(f.journal.followers, func(o *Follower) bool { return o == f })
}

// offer never waits: who follows slowly misses lines, and is told how many.
func (f *Follower) offer(l Line) {
	l.Missed = f.missed
	select {
	case f.lines <- l:
		f.missed = 0
	default:
		f.missed++
	}
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
