package supervise

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// maxLine bounds a line of output; what is longer goes out in pieces.
	maxLine = 64 << 10
	// outputGrace is how long output is read after its worker has ended: a process
	// that the application left behind may hold the pipe open for ever.
	outputGrace = 500 * time.Millisecond
)

// Lines passes whole lines of many processes on to one writer, each with a single
// Write, so that lines of two never mix.
type Lines struct {
	seen func(source, line string)

	mu sync.Mutex // guards w: one line at a time
	w  io.Writer
}

// NewLines writes lines to w. seen is told of each and of who printed it; it must not
// wait. nil: nobody is told.
func NewLines(w io.Writer, seen func(source, line string)) *Lines {
	if seen == nil {
		seen = func(string, string) {}
	}
	return &Lines{w: w, seen: seen}
}

// Write passes on a line, with its newline, that source printed, with front before it. A
// line that is an object of JSON is left as it is, or the reader of a log in JSON could
// not read it.
func (l *Lines) Write(source, front string, line []byte) error {
	l.seen(source, string(bytes.TrimRight(line, "\r\n")))
	if text := bytes.TrimSpace(line); len(text) < 2 || text[0] != '{' || !json.Valid(text) {
		line = append([]byte(front), line...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.w.Write(line)
	return err
}

// output is one of a worker's streams on its way to the host's.
type output struct {
	r    *os.File
	done chan struct{}
}

// newOutput gives the end for the child, which the caller closes once it has started.
func newOutput(j *journal, stream string, to *Lines) (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	o := &output{r: r, done: make(chan struct{})}
	go o.pass(j, stream, to)
	return o, w, nil
}

func (o *output) pass(j *journal, stream string, to *Lines) {
	defer close(o.done)
	in := bufio.NewReaderSize(o.r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if line[len(line)-1] != '\n' { // a piece, or the last of a process that was cut short
				line = append(line[:len(line):len(line)], '\n')
			}
			j.take(stream, to, line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// close waits for the rest of the output, not for processes that were left behind.
func (o *output) close() {
	_ = o.r.SetReadDeadline(time.Now().Add(outputGrace)) // a pipe knows deadlines
	<-o.done
	_ = o.r.Close() // nothing is left to be read
}
