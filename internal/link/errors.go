package link

import (
	"errors"
	"fmt"
)

// Errors that end a link or a call on it.
var (
	// ErrRefused is what a [Keeper] says of a commit whose user has moved.
	ErrRefused = errors.New("the state of the commit is refused")
	ErrCorrupt = errors.New("worker broke the link protocol") // wrapped with what it did
	ErrExited  = errors.New("worker process ended")
	ErrClosed  = errors.New("link is closed")
	ErrNoSlot  = errors.New("no free slot on the link")
	ErrEnded   = errors.New("the exchange has ended on this stream")
)

// corrupt describes a violation by the worker; see protocol/link.md, Trust.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// Corrupt is an [ErrCorrupt] for [Stream.Refuse]: what a frame says that the link itself
// cannot judge.
func Corrupt(format string, args ...any) error { return corrupt(format, args...) }

// BootError is the worker's FAILED: it could not boot and exits.
type BootError struct {
	Stage     string `json:"stage"` // import, factory, kind, lifespan, handshake, environment
	App       string `json:"app"`
	Message   string `json:"message"`
	Traceback string `json:"traceback"`
	Hint      string `json:"hint"`
	Protocol  int    `json:"protocol"`
	Version   string `json:"version"`
}

// Error is one line for the log; Traceback and Hint are printed beside it.
func (e *BootError) Error() string {
	if e.App == "" {
		return fmt.Sprintf("worker failed at %s: %s", e.Stage, e.Message)
	}
	return fmt.Sprintf("app %s failed at %s: %s", e.App, e.Stage, e.Message)
}
