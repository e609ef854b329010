// Package push keeps a session for every page: it numbers what is sent to the page's
// client, keeps what the client has not acknowledged, and after a lost connection either
// proves that nothing is missing or says that something is. protocol/push.md is the wire.
// Before it: what accepts connections and hands over frames (push/transport). After it:
// a Handler, which knows pages and applications.
// Not here: sockets, HTTP, who a client is; what messages mean.
package push

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/guado-server/guado/internal/clock"
)

// Version of the protocol.
const Version = 1

// Options of a Hub. Zero values are the defaults that the protocol names.
type Options struct {
	TailBytes int           // of frames that a client has not acknowledged; 256 KiB
	TailAge   time.Duration // how long one is kept; 2 minutes
	Waiting   int           // bytes that wait for a client that does not read; 1 MiB
	Message   int           // bytes of data of one message, in either direction; 1 MiB
	Beat      time.Duration // silence after which a sign of life is sent; 20 s
	Away      time.Duration // how long a page without a connection lives; 30 minutes
	Unclaimed time.Duration // and one whose client never came; 60 s
	NewPages  int           // how many of those there may be; the oldest go first; 10,000
	UserPages int           // pages of one user, or of one connection of a guest; the one whose client is away longest makes room; 200
	Pages     int           // of all; room is made likewise; 100,000
	Hello     time.Duration // how long a connection may take to say whose it is; 10 s
	Window    time.Duration // in which clients come back, at least; 1 s
	Rate      int           // reconnections a second for which the window is made; 500
	Calls     int           // requests of one client at once; 64
	Replies   int           // bytes of replies kept for a client that asks again; 64 KiB

	// Base takes from a page's id what is only a hint, as the slot of its worker: pages are
	// kept by the rest. Nil: nothing is.
	Base func(page string) string
	// Touched is told that what [Session.Describe] gives has changed, or that the page has ended;
	// it is called under locks and must not wait. Position is that of what was changed so far, and
	// Keeps whether all up to one is kept: a client is told only then that its messages are taken.
	// Nil: nobody keeps them before the stop.
	Touched  func(page string)
	Position func() uint64
	Keeps    func(position uint64) bool
	// Clock is that of times of life; nil: one of its own.
	Clock *clock.Clock
	Log   *slog.Logger
}

func (o Options) withDefaults() Options {
	setInt := func(v *int, to int) {
		if *v <= 0 {
			*v = to
		}
	}
	setTime := func(v *time.Duration, to time.Duration) {
		if *v <= 0 {
			*v = to
		}
	}
	setInt(&o.TailBytes, 256<<10)
	setTime(&o.TailAge, 2*time.Minute)
	setInt(&o.Waiting, 1<<20)
	setInt(&o.Message, 1<<20)
	setTime(&o.Beat, 20*time.Second)
	setTime(&o.Away, 30*time.Minute)
	setTime(&o.Unclaimed, time.Minute)
	setInt(&o.UserPages, 200)
	setInt(&o.Pages, 100_000)
	setInt(&o.NewPages, 10000)
	setTime(&o.Hello, 10*time.Second)
	setTime(&o.Window, time.Second)
	setInt(&o.Rate, 500)
	setInt(&o.Calls, 64)
	setInt(&o.Replies, 64<<10)
	if o.Base == nil {
		o.Base = func(page string) string { return page }
	}
	if o.Touched == nil {
		o.Touched = func(string) {}
		o.Position = func() uint64 { return 0 }
		o.Keeps = func(uint64) bool { return true }
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Transport carries frames to one client. Its methods never wait for the client and
// never call back: a session calls them under its lock, because that lock is what keeps
// frames in order.
type Transport interface {
	// Send takes one frame, whose bytes are valid until it returns, and tells how many
	// bytes wait for the client to read.
	Send(frame []byte) (waiting int, err error)
	// Close tells the client why, after what was sent before, and ends the connection.
	Close(code Code)
}

// Handler is told what happens to sessions. Calls for one session come one after the
// other, in the order in which things happened, and without any lock; a call that takes
// long holds up its session only.
type Handler interface {
	// Opened: a client is connected. Unless o.Resumed, it waits for a snapshot.
	Opened(s *Session, o Opening)
	// Message came from the client. A request is answered with [Session.Reply] or
	// [Session.Fail], now or later, unless Message returns an error, which fails it.
	Message(s *Session, m Message) error
	// Cancelled: the client no longer waits for the reply to this request.
	Cancelled(s *Session, r Ref)
	// Away: the client's connection was lost; it may come back.
	Away(s *Session)
	// Ended is the last call.
	Ended(s *Session, why Code)
}

// Opening is how a client's connection began.
type Opening struct {
	First   bool // the page's client was never there before
	Resumed bool // it has missed nothing
	Why     Why  // what else
	Kept    bool // what became of its messages is known, though the stream is another one
}

// Why says why a client could not resume.
type Why string

// What the protocol allows as reasons.
const (
	WhyTail   Why = "tail"   // frames that it had not acknowledged passed the limits of the tail
	WhyEpoch  Why = "epoch"  // the host's stream is not the one the client knew
	WhyClient Why = "client" // another instance of the page's client came
)

// Ref names a request of a client.
type Ref struct {
	Instance uint32 // of the page's client: one that was loaded again counts anew
	ID       uint64
}

// Message is what a client sent.
type Message struct {
	Ref
	Request bool   // a reply is waited for
	Write   bool   // it writes what is shared with it: Data is a list of changes
	To      string // what it is for: a path of the application; may be empty
	Data    []byte // JSON; the handler's to keep
}

// ReplyError is an error that a client is told. Its codes are in the protocol.
type ReplyError struct {
	Code    string
	Message string
}

// Error is for the log.
func (e *ReplyError) Error() string { return e.Code + ": " + e.Message }

// Codes of ReplyError that the host itself uses.
const (
	ReplyBusy     = "busy"     // too much waits already; nothing was done
	ReplyFailed   = "failed"   // the application failed
	ReplyLost     = "lost"     // whoever had it is gone: it may have been done, or not
	ReplyUnknown  = "unknown"  // it was done or refused before, and the reply is no longer kept
	ReplyIdentity = "identity" // its user has logged in or out before it began; nothing was done
)

// Errors of this package.
var (
	ErrEnded    = errors.New("the page has ended")
	ErrStopping = errors.New("the host is stopping")
	ErrLost     = errors.New("the client will not get this message: it had to start anew from a snapshot")
	ErrNotJSON  = errors.New("the data is not JSON in UTF-8")
	ErrTooBig   = errors.New("the message is too long")
	ErrNoCall   = errors.New("the request is not open: it was answered already, or its client is gone")
	ErrExists   = errors.New("a page of this id exists")
)

// Refusal is why a connection or a frame was not taken.
type Refusal struct {
	Code Code
	Err  error // for the log
}

// Error is for the log.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return r.Code.Name()
	}
	return fmt.Sprintf("%s: %v", r.Code.Name(), r.Err)
}

// Unwrap gives the operator's error.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Err: fmt.Errorf(format, args...)}
}
