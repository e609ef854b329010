package exchange

import "errors"

// Errors that a lane gives to the steps behind it.
var (
	ErrClientGone    = errors.New("client went away")
	ErrSlowClient    = errors.New("client made no progress within the idle timeout")
	ErrMalformedBody = errors.New("malformed request body")
	ErrBodyTooLarge  = errors.New("request body exceeds the limit")
	ErrInterrupted   = errors.New("reading of the request body was interrupted")
)

// ErrStarted is in the error of a Problem by which the host cuts what the application had
// begun, where the same Problem otherwise says that nothing was done.
var ErrStarted = errors.New("the application had begun with it")

// Problem is an answer that the host makes itself. Status and Code go to the
// client, with the request id; Err is for the log and never leaves the host.
type Problem struct {
	Status     int
	Code       string // stable, snake_case: "queue_full"
	RetryAfter int    // seconds; 0: no Retry-After field
	Fields     []Field
	Err        error
	// Detail is shown to the client: a traceback under `guado dev`, and never anything
	// otherwise.
	Detail string
	// Headline says under `guado dev` in a line what Detail is about.
	Headline string
	// Passing: the next request may well succeed, without a change of its own. Only
	// `guado dev` says so, whose page then asks again.
	Passing bool
}

// Error makes a Problem an error for the log.
func (p *Problem) Error() string {
	s := p.Code
	if p.Err != nil {
		s += ": " + p.Err.Error()
	}
	return s
}

// Unwrap gives the operator's error.
func (p *Problem) Unwrap() error { return p.Err }

// Fail answers with p, or aborts when a head has left already. It is the one way
// by which a step refuses an exchange.
func (x *Exchange) Fail(p *Problem) {
	x.Problem = p
	if x.Answer.Begun() {
		x.Answer.Abort(p)
		return
	}
	x.Answer.Problem(x, p)
}
