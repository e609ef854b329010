package pool

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// attend serves the exchange until the worker has answered, or is not waited for any
// more: whatever wakes the goroutine, it looks at everything.
func (f *flight) attend(s *link.Stream, x *exchange.Exchange) (verdict, *exchange.Problem) {
	for {
		ended := s.Err() // before Take: frames that came before the end are still there
		f.frames = s.Take(f.frames[:0])
		if problem := f.unkept(); problem != nil {
			f.dropFrames(0)
			return f.depart(s, link.CancelGone, problem)
		}
		for i := range f.frames {
			v, problem, done := f.deliver(s, x, &f.frames[i], f.frames[i+1:])
			if done {
				f.dropFrames(i + 1)
				return v, problem
			}
		}
		if len(f.frames) > 0 && x.Answer.Begun() {
			if err := x.Answer.Flush(); err != nil {
				return f.depart(s, link.CancelGone, f.unsent(x, err))
			}
		}
		if ended != nil {
			return f.bereaved(s, x, ended)
		}
		if f.news.Load() != 0 {
			if v, problem, done := f.hear(s); done {
				return v, problem
			}
		}
		if v, problem, done := f.watchClient(s, x); done {
			return v, problem
		}
		if f.bodySent < f.body.size {
			if err := f.sendBody(s); err != nil {
				return f.depart(s, link.CancelGone, bodyProblem(err))
			}
		}
		x.Wait()
	}
}

// deliver passes one frame on to the client. done: the exchange is over for it.
func (f *flight) deliver(s *link.Stream, x *exchange.Exchange, fr *link.Frame, rest []link.Frame) (v verdict, problem *exchange.Problem, done bool) {
	var err error
	if fr.Arg != 0 && (fr.Kind == link.KindCommit || fr.Kind == link.KindResponseBody || fr.Kind == link.KindTrailers) {
		x.Worked = time.Duration(fr.Arg) * time.Microsecond
	}
	switch fr.Kind {
	case link.KindCommit:
		if head := (exchange.Head{}); link.Accepts(fr.Payload) {
			if head, err = f.acceptance(s, fr); err == nil {
				f.behind()
				v, problem = f.upgrade(s, x, &head, rest)
				return v, problem, true
			}
			break
		}
		err = f.commit(s, x, fr.Payload)
	case link.KindResponseBody:
		err = f.write(s, x, fr.Payload)
	case link.KindInformational:
		err = f.inform(s, x, fr.Payload)
	case link.KindFile:
		err = x.Answer.File(fr.File, fr.Offset, fr.Count)
		closeFile(f.pool.opts.Log, fr)
		s.CreditFile()
	case link.KindTrailers:
		if f.fields, err = link.DecodeTrailers(fr.Payload, f.fields); err != nil {
			err = refuse(s, err)
			break
		}
		err = x.Answer.Trailers(f.fields)
	case link.KindMessageUp, link.KindClose:
		err = refuse(s, link.Corrupt("%v of a WebSocket that was not accepted", fr.Kind))
	case link.KindAbort:
		if fr.Arg == link.AbortMoved { // the application may run on
			return handedOver, movedProblem(), true
		}
		return landed, f.aborted(s, x, fr), true
	case link.KindDone:
		return landed, nil, true
	}
	if err != nil {
		if errors.Is(err, link.ErrCorrupt) {
			return landed, nil, false // the link has ended: bereaved sees to it
		}
		v, problem = f.depart(s, link.CancelGone, f.unsent(x, err))
		return v, problem, true
	}
	switch {
	case fr.Flags&link.End == 0:
		return landed, nil, false
	case fr.Flags&link.Busy != 0:
		return handedOver, nil, true
	default:
		return landed, nil, true
	}
}

// unkept waits until what the frames rest on is kept.
func (f *flight) unkept() *exchange.Problem {
	if kept := f.pool.opts.Kept; kept != nil && len(f.frames) > 0 {
		if err := kept(); err != nil {
			return &exchange.Problem{Status: 503, Code: "durability_unavailable", RetryAfter: 1, Err: err}
		}
	}
	return nil
}

func (f *flight) commit(s *link.Stream, x *exchange.Exchange, payload []byte) error {
	head, body, err := link.DecodeHead(payload, f.fields)
	if err != nil {
		return refuse(s, err)
	}
	f.fields = head.Fields
	f.begun.Store(true)
	f.behind()
	if err := x.Answer.Head(head); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	return f.write(s, x, body)
}

// acceptance is a head of 101: the application accepts a WebSocket.
func (f *flight) acceptance(s *link.Stream, fr *link.Frame) (exchange.Head, error) {
	head, body, err := link.DecodeHead(fr.Payload, f.fields)
	switch {
	case err != nil:
	case !f.socket:
		err = link.Corrupt("an answer of 101 to what was no request for a WebSocket")
	case len(body) > 0 || fr.Flags&link.End != 0:
		err = link.Corrupt("an answer of 101 with a body or an end")
	}
	if err != nil {
		return head, refuse(s, err)
	}
	return head, nil
}

func (f *flight) write(s *link.Stream, x *exchange.Exchange, p []byte) error {
	_, err := x.Answer.Write(p)
	s.Credit(len(p))
	return err
}

// inform passes a 1xx on. 100 is the application's first read: now the client is
// asked for the body.
func (f *flight) inform(s *link.Stream, x *exchange.Exchange, payload []byte) error {
	head, _, err := link.DecodeHead(payload, f.fields)
	if err != nil {
		return refuse(s, err)
	}
	f.fields = head.Fields
	if head.Status != 100 {
		return x.Answer.Informational(head.Status, head.Fields)
	}
	if !f.streaming || f.pump.Load() != nil {
		return nil
	}
	if err := x.Answer.Informational(100, nil); err != nil {
		return err
	}
	f.startPump(s, x)
	return nil
}

// refuse ends the link because of a frame that cannot be.
func refuse(s *link.Stream, err error) error {
	s.Refuse(err)
	return err
}

// aborted tells the client that the application gave no answer, or only part of one,
// and no more than that.
func (f *flight) aborted(s *link.Stream, x *exchange.Exchange, fr *link.Frame) *exchange.Problem {
	text := strings.TrimRight(string(fr.Payload), "\n")
	log := f.pool.opts.Log.With("request_id", x.ID, "app", f.app.opts.Load().Name, "worker", x.Worker)
	problem := &exchange.Problem{Status: 500, Code: "application_error", Err: lastLine(text)}
	if f.pool.opts.Dev {
		problem.Detail = text
		if traceback := s.LoggedError(); traceback != "" {
			problem.Detail = traceback
		}
		problem.Headline = lastLine(strings.TrimRight(problem.Detail, "\n")).Error()
	}
	switch fr.Arg {
	case link.AbortException:
		// The worker has logged the traceback, with the request id.
		log.Debug("the application raised an exception", "method", x.Method, "path", string(x.Path), "error", text)
	case link.AbortProtocol:
		problem.Code = "application_protocol"
		log.Error("the application broke the protocol", "method", x.Method, "path", string(x.Path), "error", text)
	default:
		problem = stoppingProblem()
	}
	if pump := f.pump.Load(); pump != nil && pump.failure() != nil {
		return bodyProblem(pump.failure()) // what the application made of a body that was cut
	}
	return problem
}

// lastLine is the exception of a traceback, for the access log.
func lastLine(text string) error {
	return errors.New(text[strings.LastIndexByte(text, '\n')+1:])
}

// bereaved decides what becomes of an exchange whose worker has died.
func (f *flight) bereaved(s *link.Stream, x *exchange.Exchange, why error) (verdict, *exchange.Problem) {
	p := f.pool
	held := !f.streaming || f.pump.Load() == nil // nothing of the body was read from the client
	started := s.Started()
	safe := f.app.opts.Load().RetrySafe && isSafe(x.Method)
	if !f.begun.Load() && held && !f.retried && (!started || safe) && x.Gone() != exchange.Closed {
		f.retried = true
		p.count(func(c *Counters) { c.Retried++ })
		return flyAgain, nil
	}
	p.count(func(c *Counters) { c.Lost++ })
	return landed, &exchange.Problem{Status: 502, Code: "worker_died", Err: fmt.Errorf("%w: %w", errWorkerDied, why)}
}

func isSafe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// hear acts on what others have told the flight.
func (f *flight) hear(s *link.Stream) (v verdict, problem *exchange.Problem, done bool) {
	news := f.news.Swap(0)
	end := func(reason uint32, problem *exchange.Problem) (verdict, *exchange.Problem, bool) {
		v, problem := f.depart(s, reason, problem)
		return v, problem, true
	}
	switch {
	case news&newsStopping != 0:
		problem := stoppingProblem()
		if !f.begun.Load() && f.pump.Load() == nil && s.Revoke() {
			return landed, problem, true
		}
		problem.Err = fmt.Errorf("%w: %w", errStopping, exchange.ErrStarted)
		return end(link.CancelStopping, problem)
	case news&newsDeadline != 0 && !f.begun.Load():
		v, problem := f.interrupt(s)
		return v, problem, true
	case f.begun.Load() || f.pump.Load() != nil:
	case news&newsQueueWait != 0 && s.Revoke():
		f.pool.count(func(c *Counters) { c.Refused++ })
		return landed, queueWaitProblem(), true
	case news&newsMove != 0 && s.Revoke():
		if f.pool.move(f) {
			return flyMoved, nil, true
		}
		return flyAgain, nil, true
	case news&newsRequeue != 0 && s.Revoke():
		return flyAgain, nil, true
	}
	if news&newsMove != 0 {
		f.pool.stay(f)
	}
	return landed, nil, false
}

// watchClient acts on a client that has left.
func (f *flight) watchClient(s *link.Stream, x *exchange.Exchange) (v verdict, problem *exchange.Problem, done bool) {
	switch x.Left() {
	case exchange.Closed:
		v, problem = f.depart(s, link.CancelGone, clientProblem(exchange.ErrClientGone))
		return v, problem, true
	case exchange.HalfClosed:
		if f.socket {
			v, problem = f.depart(s, link.CancelGone, clientProblem(exchange.ErrClientGone))
			return v, problem, true
		}
		if !f.halfTold {
			f.halfTold = true
			s.Cancel(link.CancelHalfClosed)
		}
	}
	if pump := f.pump.Load(); pump != nil && !f.begun.Load() {
		if err := pump.failure(); err != nil && !errors.Is(err, exchange.ErrClientGone) {
			// The application was told that the body was cut; the client is told why.
			v, problem = f.depart(s, link.CancelGone, bodyProblem(err))
			return v, problem, true
		}
	}
	return landed, nil, false
}

// depart leaves the worker alone with the exchange: the request is taken back when
// it has not started, else cancelled.
func (f *flight) depart(s *link.Stream, reason uint32, problem *exchange.Problem) (verdict, *exchange.Problem) {
	if s.Revoke() {
		return landed, problem
	}
	s.Cancel(reason)
	return handedOver, problem
}

// interrupt ends the exchange at its deadline: the client is answered, the worker is told
// to interrupt the application, and is replaced, for nobody knows in what state that
// leaves it.
func (f *flight) interrupt(s *link.Stream) (verdict, *exchange.Problem) {
	problem := deadlineProblem()
	if s.Revoke() {
		return landed, problem
	}
	problem.Err = fmt.Errorf("%w: %w", errDeadline, exchange.ErrStarted)
	if s.Interrupt() && f.pool.opts.Interrupted != nil {
		f.pool.opts.Interrupted(f.seat.link)
	}
	return handedOver, problem
}

// sendBody sends what the worker takes now of a body that is held.
func (f *flight) sendBody(s *link.Stream) error {
	scratch := []byte(nil)
	if f.body.file != nil {
		buf := chunks.Get().(*[]byte)
		defer chunks.Put(buf)
		scratch = *buf
	}
	for f.bodySent < f.body.size {
		p, err := f.body.at(f.bodySent, scratch)
		if err != nil {
			return err
		}
		how := link.BodyMore
		if f.bodySent+int64(len(p)) == f.body.size {
			how = link.BodyEnd
		}
		n, err := s.Body(p, how)
		f.bodySent += int64(n)
		if err != nil || n < len(p) {
			return nil // there is news of the link, or will be of credit: the bell rings
		}
	}
	return nil
}

// dropFrames closes the files of frames that nobody wants any more.
func (f *flight) dropFrames(from int) {
	for i := from; i < len(f.frames); i++ {
		if f.frames[i].File != nil {
			closeFile(f.pool.opts.Log, &f.frames[i])
		}
	}
	clear(f.frames)
	f.frames = f.frames[:0]
}

func closeFile(log *slog.Logger, fr *link.Frame) {
	if err := fr.File.Close(); err != nil {
		log.Warn("closing a worker's file", "error", err)
	}
}

func (p *Pool) count(add func(*Counters)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add(&p.total)
}

var errMoved = errors.New("the user's state is another worker's since")

var errDeadline = errors.New("no answer within the request timeout")

func deadlineProblem() *exchange.Problem {
	return &exchange.Problem{Status: 504, Code: "deadline", Err: errDeadline}
}

// movedProblem is an answer that rests on state which is another worker's by now.
func movedProblem() *exchange.Problem {
	return &exchange.Problem{Status: 502, Code: "moved", Err: errMoved}
}

func queueWaitProblem() *exchange.Problem {
	return &exchange.Problem{Status: 503, Code: "queue_wait", RetryAfter: 1, Err: errQueueWait}
}

// clientProblem is a client that has left.
func clientProblem(err error) *exchange.Problem {
	return &exchange.Problem{Status: 499, Code: "client_gone", Err: err}
}

// unsent is an answer that could not be passed on: mostly because the client has
// left; else the worker's file or head was at fault, which the operator must hear of.
func (f *flight) unsent(x *exchange.Exchange, err error) *exchange.Problem {
	if errors.Is(err, exchange.ErrClientGone) || errors.Is(err, exchange.ErrSlowClient) {
		return clientProblem(err)
	}
	f.pool.opts.Log.Error("the answer could not be sent", "request_id", x.ID, "app", f.app.opts.Load().Name, "worker", x.Worker, "error", err)
	return &exchange.Problem{Status: 500, Code: "answer_unsendable", Err: err}
}
