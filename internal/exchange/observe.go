package exchange

import "time"

// Meter counts the exchanges of one mount: Begin and then End, once each, from the
// exchange's own goroutine.
type Meter interface {
	Begin()
	End(x *Exchange, o Outcome)
}

// Outcome is how an exchange ended.
type Outcome struct {
	Status   int   // sent to the client; 0: none
	BytesIn  int64 // of the request body that was read
	BytesOut int64 // of the answer's body
	Err      error // why it was aborted, or nil
	At       time.Time
}

// Trace is the place of an exchange in a trace that the host records; the zero Trace
// is recorded nowhere. TraceParent then names Worker as the parent of what the
// application traces.
type Trace struct {
	ID      [16]byte
	Parent  [8]byte // the span of a trusted client; zero: the trace begins here
	Span    [8]byte // the host's
	Worker  [8]byte // the worker's
	Sampled bool
	// Sent is when the worker last got the request, Ended when its answer ended.
	Sent, Ended time.Time
}
