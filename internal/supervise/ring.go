package supervise

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// tailLines is how many of the last lines of a slot are kept, and tailLine how much
	// of each.
	tailLines = 200
	tailLine  = 2 << 10
	// burst is how many seconds' worth of lines may come at once.
	burst = 5
	// suppressedEvery is when a flood is told of, while it lasts.
	suppressedEvery = time.Second
)

// Line is a line that a worker printed.
type Line struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // "stdout" or "stderr"
	Text   string    `json:"text"`
}

// journal takes the lines of a slot: it keeps the last ones and passes them on, with
// the slot in front and no more of them than the limit allows.
type journal struct {
	slot, front string

	mu      sync.Mutex // guards all below
	lines   []Line     // a ring once it is full
	total   int        // lines ever
	news    chan struct{}
	limit   int // lines a second; 0: none
	tokens  float64
	filled  time.Time
	dropped int
	timer   *time.Timer // tells of a flood that ends in silence; nil: none
	last    *Lines      // where the last dropped line would have gone
}

func newJournal(group, slot string, limit int) *journal {
	return &journal{slot: slot, front: group + " " + slot + " | ", news: make(chan struct{}), limit: limit, tokens: float64(burst * limit), filled: time.Now()}
}

// take keeps a line, which ends in a newline, and passes it on to a stream.
func (j *journal) take(stream string, to *Lines, line []byte) {
	text := string(bytes.TrimRight(line[:min(len(line), tailLine)], "\n"))
	j.mu.Lock()
	now := time.Now()
	one := Line{Time: now, Stream: stream, Text: text}
	if len(j.lines) < tailLines {
		j.lines = append(j.lines, one)
	} else {
		j.lines[j.total%tailLines] = one
	}
	j.total++
	close(j.news)
	j.news = make(chan struct{})
	pass := j.passes(now)
	told := ""
	if pass {
		told = j.toldLocked()
	} else {
		j.dropped++
		j.last = to
		if j.timer == nil {
			j.timer = time.AfterFunc(suppressedEvery, j.tell)
		}
	}
	j.mu.Unlock()
	// A host whose own output is gone goes on serving, and reads on, so that no worker
	// blocks in print.
	if told != "" {
		_ = to.Write(j.slot, j.front, []byte(told))
	}
	if pass {
		_ = to.Write(j.slot, j.front, line)
	}
}

// passes takes a token for a line. Called with j.mu held.
func (j *journal) passes(now time.Time) bool {
	if j.limit <= 0 {
		return true
	}
	j.tokens = min(j.tokens+now.Sub(j.filled).Seconds()*float64(j.limit), float64(burst*j.limit))
	j.filled = now
	if j.tokens < 1 {
		return false
	}
	j.tokens--
	return true
}

// toldLocked says how many lines were dropped, once. Called with j.mu held.
func (j *journal) toldLocked() string {
	if j.dropped == 0 {
		return ""
	}
	text := fmt.Sprintf("%d lines suppressed\n", j.dropped)
	j.dropped = 0
	return text
}

// tell says it while the flood lasts, and when it has ended in silence.
func (j *journal) tell() {
	j.mu.Lock()
	told, to := j.toldLocked(), j.last
	j.timer = nil
	j.mu.Unlock()
	if told != "" {
		_ = to.Write(j.slot, j.front, []byte(told)) // as in take
	}
}

// flush tells of what was dropped when a worker has ended.
func (j *journal) flush() {
	j.mu.Lock()
	stopped := j.timer == nil || j.timer.Stop()
	j.mu.Unlock()
	if stopped { // else tell is running, and says it
		j.tell()
	}
}

// tail gives the lines that are kept, the oldest first.
func (j *journal) tail() []Line {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.since(j.total - len(j.lines))
}

// since gives what is kept of the lines behind the first n. Called with j.mu held.
func (j *journal) since(n int) []Line {
	var all []Line
	for i := max(n, j.total-len(j.lines)); i < j.total; i++ {
		all = append(all, j.lines[i%tailLines])
	}
	return all
}

// mark is the number of lines so far.
func (j *journal) mark() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.total
}

// collect gives the lines behind a mark: it waits for the first of them, and then until
// none has come for a while.
func (j *journal) collect(mark int, first, quiet time.Duration) []Line {
	wait := first
	for {
		j.mu.Lock()
		news, lines := j.news, j.since(mark)
		j.mu.Unlock()
		if len(lines) > 0 {
			wait = quiet
		}
		t := time.NewTimer(wait)
		select {
		case <-news:
			t.Stop()
		case <-t.C:
			return lines
		}
	}
}

// text joins lines.
func text(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}
