package harness

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log keeps what is written to it, by several goroutines, and tells when more comes.
// Its zero value is empty.
type Log struct {
	mu   sync.Mutex // guards text and more
	text bytes.Buffer
	more chan struct{} // closed with the next write; nil while nobody waits
}

// Write appends p.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.text.Write(p)
}

// String is what was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Sofar is String, and a channel that is closed when there is more.
func (l *Log) Sofar() (text string, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return l.text.String(), l.more
}

// Wait waits until the text holds each of the parts.
func (l *Log) Wait(tb testing.TB, limit time.Duration, parts ...string) {
	tb.Helper()
	timeout := time.After(limit)
	for {
		text, more := l.Sofar()
		missing := ""
		for _, part := range parts {
			if !strings.Contains(text, part) {
				missing = part
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-more:
		case <-timeout:
			tb.Fatalf("after %v %q is not in the log:\n%s", limit, missing, text)
		}
	}
}

// Eventually polls for what no event tells.
func Eventually(tb testing.TB, what string, limit time.Duration, holds func() bool) {
	tb.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("not within %v: %s", limit, what)
		}
	}
}
