package supervise

import (
	"bufio"
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

// Lines passes whole lines of many writers on to one, each with a single Write, so
// that lines of two workers never mix.
type Lines struct {
	mu sync.Mutex // guards w: one line at a time
	w  io.Writer
}

// NewLines writes lines to w.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

func (l *Lines) write(line []byte) error {
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
