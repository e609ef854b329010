package pool

import (
	"errors"
	"io"

	"github.com/guado-server/guado/internal/exchange"
)

// inlineMost is the longest body that is read before a worker is asked, whatever
// the application: it travels in the REQUEST frame and costs no further ones.
const inlineMost = 32 << 10

// prepare decides how the body, if there is one, reaches the worker, and collects it where
// that comes before a thread is taken.
func (f *flight) prepare(x *exchange.Exchange) *exchange.Problem {
	if f.streams(x) {
		f.streaming = true
		return nil
	}
	if err := f.body.collect(f.app.pool.opts.Spool, x.Body, x.Length); err != nil {
		return bodyProblem(err)
	}
	// The application sees a complete body of known length, whatever framed it.
	x.Length, x.Expect = f.body.size, false
	if x.Collected != nil {
		return x.Collected(x, &f.body)
	}
	return nil
}

// streams says whether the body goes to the worker as it comes from the client.
func (f *flight) streams(x *exchange.Exchange) bool {
	if f.kind == asgi || !f.app.opts.Load().Spool {
		return x.Expect || x.Length < 0 || x.Length > inlineMost
	}
	return x.Expect && x.Version == exchange.HTTP11 && f.app.pool.lendUnread(f)
}

// lendUnread lets f take a thread before its body is here, so that the application
// decides with its first read whether the client sends it: for at most a quarter of
// the threads of a worker, rounded down, times the workers: it is counted for the group,
// because nobody has a seat yet. None where a worker has less than four threads. release
// takes the loan back.
func (p *Pool) lendUnread(f *flight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unread >= p.opts.Threads/4*max(1, len(p.workers)) {
		return false
	}
	p.unread++
	f.unread = true
	return true
}

// unlend takes the loan back. Called with p.mu held.
func (p *Pool) unlend(f *flight) {
	if f.unread {
		f.unread = false
		p.unread--
	}
}

// bodyProblem is the answer to a body that could not be read.
func bodyProblem(err error) *exchange.Problem {
	switch {
	case errors.Is(err, exchange.ErrBodyTooLarge):
		return &exchange.Problem{Status: 413, Code: "body_too_large", Err: err}
	case errors.Is(err, exchange.ErrMalformedBody):
		return &exchange.Problem{Status: 400, Code: "malformed_body", Err: err}
	case errors.Is(err, exchange.ErrSlowClient):
		return &exchange.Problem{Status: 408, Code: "slow_client", Err: err}
	case errors.Is(err, errSpoolFull):
		return &exchange.Problem{Status: 503, Code: "spool_full", RetryAfter: 5, Err: err}
	case errors.Is(err, exchange.ErrClientGone), errors.Is(err, io.ErrUnexpectedEOF):
		return &exchange.Problem{Status: 499, Code: "client_gone", Err: err}
	default:
		return &exchange.Problem{Status: 500, Code: "body_unreadable", Err: err}
	}
}
