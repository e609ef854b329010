package http2

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

const (
	// bufferedBytes is what net/http holds back before it waits for the client.
	bufferedBytes = 4 << 10
	// pieceBytes is the unit of progress: a client must take one within the idle time.
	pieceBytes = 16 << 10
)

var errAborted = errors.New("answer was aborted")

// answer is an http.ResponseWriter as exchange.Answer.
type answer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stream  *stream
	guard   guard

	status    int
	account   framing.Body
	buffered  int
	err       error // of the client, the same ever after
	aborted   error
	deadline  time.Time // set by the step; it holds to the end
	writeIdle time.Duration
}

func (a *answer) reset(w http.ResponseWriter, st *stream, control *http.ResponseController) {
	a.w, a.stream, a.control = w, st, control
	a.status, a.buffered, a.err, a.aborted = 0, 0, nil, nil
	a.account, a.deadline = framing.Body{}, time.Time{}
	a.writeIdle = st.server.limits.WriteIdle
	a.guard.reset(a.writeIdle, func() {
		// net/http resets the stream, which frees the writer.
		_ = control.SetWriteDeadline(longAgo)
	})
}

func (a *answer) release() { a.w, a.control, a.stream, a.guard.fire = nil, nil, nil, nil }

// Begun reports whether a final head was written.
func (a *answer) Begun() bool { return a.status != 0 }

// Informational sends an answer before the answer. 100 is sent by the first read of
// the body and 101 does not exist in HTTP/2: both do nothing.
func (a *answer) Informational(status int, fields []exchange.Field) error {
	if status < 100 || status > 199 {
		return fmt.Errorf("status %d is not informational", status)
	}
	if status == http.StatusContinue || status == http.StatusSwitchingProtocols || a.Begun() {
		return a.failed()
	}
	if err := framing.CheckFields(fields); err != nil {
		return err
	}
	if err := a.failed(); err != nil {
		return err
	}
	h := a.w.Header()
	setFields(h, fields)
	a.guard.start()
	a.w.WriteHeader(status)
	err := a.progress(nil)
	clear(h)
	return err
}

// Head sends the head with the first flush or the first full buffer.
func (a *answer) Head(head exchange.Head) error {
	if a.Begun() {
		return errors.New("a second head in one answer")
	}
	if err := framing.CheckHead(&head); err != nil {
		return err
	}
	if err := a.failed(); err != nil {
		return err
	}
	h := a.w.Header()
	if setFields(h, head.Fields) {
		a.stream.server.strays.Warn(a.stream.server.log, a.stream.x)
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guesses one
	}
	a.status = head.Status
	a.account = framing.Begin(a.stream.x.Method, head.Status, head.Length)
	// A 304 may say the length that it does not have, but Go's own client takes the
	// answer for cut then, and with it every proxy written in Go.
	if n, ok := a.account.Length(); ok && head.Status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	}
	a.w.WriteHeader(head.Status)
	return nil
}

// setFields reports whether there was an order to the host among them.
func setFields(h http.Header, fields []exchange.Field) (stray bool) {
	values := make([]string, len(fields)) // one piece of memory: names seldom repeat
	for i, f := range fields {
		if framing.Framed(f.Name) {
			stray = stray || framing.ForHost(f.Name)
			continue
		}
		name := http.CanonicalHeaderKey(string(f.Name))
		values[i] = string(f.Value)
		if there := h[name]; there != nil {
			h[name] = append(there, values[i])
		} else {
			h[name] = values[i : i+1 : i+1]
		}
	}
	return stray
}

// Write sends p, or keeps it while the buffer has room. Bytes beyond the declared
// length count as written.
func (a *answer) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if err := a.failed(); err != nil {
			return done, err
		}
		piece := p[done:min(done+pieceBytes, len(p))]
		if err := a.write(piece[:a.account.Take(int64(len(piece)))]); err != nil {
			return done, err
		}
		done += len(piece)
	}
	return done, a.failed()
}

func (a *answer) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	a.buffered += len(p)
	if a.buffered < bufferedBytes {
		_, err := a.w.Write(p)
		return a.clientError(err)
	}
	a.buffered = 0
	a.guard.start()
	_, err := a.w.Write(p)
	return a.progress(err)
}

var fileBuffers = sync.Pool{New: func() any { b := make([]byte, pieceBytes); return &b }}

// File reads at its own offset: the descriptor may be in use by another answer.
func (a *answer) File(f exchange.File, offset, count int64) error {
	buf := fileBuffers.Get().(*[]byte)
	defer fileBuffers.Put(buf)
	for count > 0 {
		if err := a.failed(); err != nil {
			return err
		}
		p := (*buf)[:min(int64(len(*buf)), count)]
		n, err := f.ReadAt(p, offset)
		if n == 0 && err != nil {
			return fmt.Errorf("reading the file of an answer at %d: %w", offset, err)
		}
		offset, count = offset+int64(n), count-int64(n)
		if err := a.write(p[:a.account.Take(int64(n))]); err != nil {
			return err
		}
	}
	return a.failed()
}

// Trailers are sent when the client said that it takes them.
func (a *answer) Trailers(fields []exchange.Field) error {
	if err := framing.CheckFields(fields); err != nil {
		return err
	}
	if err := a.failed(); err != nil {
		return err
	}
	if !a.stream.x.TrailersOK || !a.account.Carries() {
		return nil
	}
	h := a.w.Header()
	for _, f := range fields {
		if !framing.TrailerAllowed(f.Name) {
			continue
		}
		name := http.TrailerPrefix + http.CanonicalHeaderKey(string(f.Name))
		h[name] = append(h[name], string(f.Value))
	}
	return nil
}

// Flush sends what is buffered, the head at least.
func (a *answer) Flush() error {
	if err := a.failed(); err != nil || !a.Begun() {
		return err
	}
	a.buffered = 0
	head := a.stream.x.Method == http.MethodHead
	if head && a.stream.whole.Swap(true) {
		return nil
	}
	a.guard.start()
	err := a.control.Flush()
	if head {
		err = nil // net/http has ended the stream with the head, and says that it is closed
	}
	return a.progress(err)
}

// Abort makes the stream end with RST_STREAM.
func (a *answer) Abort(err error) {
	if a.aborted == nil {
		a.aborted = err
		if err == nil {
			a.aborted = errAborted
		}
	}
}

// Problem answers with an error page.
func (a *answer) Problem(x *exchange.Exchange, p *exchange.Problem) {
	head, page := a.stream.server.hooks.Render(x, p)
	err := a.Head(head)
	if err == nil {
		_, err = a.Write(page)
	}
	if err != nil {
		a.Abort(err)
	}
}

// SetReadDeadline and SetWriteDeadline are absolute, beside the idle times.
func (a *answer) SetReadDeadline(t time.Time) error { return a.control.SetReadDeadline(t) }

// SetWriteDeadline see SetReadDeadline.
func (a *answer) SetWriteDeadline(t time.Time) error {
	a.deadline = t
	return a.control.SetWriteDeadline(t)
}

// SetIdle changes the idle times of the stream; see [exchange.Idler].
func (a *answer) SetIdle(read, write time.Duration) {
	if read > 0 {
		a.stream.body.guard.idle = read
	}
	if write > 0 {
		a.guard.idle, a.writeIdle = write, write
	}
}

// progress ends the wait that guard.start began.
func (a *answer) progress(err error) error {
	if !a.guard.stop() {
		a.err = fmt.Errorf("%w: %w", exchange.ErrClientGone, exchange.ErrSlowClient)
	}
	return a.clientError(err)
}

func (a *answer) clientError(err error) error {
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	return a.failed()
}

func (a *answer) failed() error {
	if a.err == nil && a.aborted != nil {
		return errAborted
	}
	return a.err
}

// end gives the reason for which the stream must be reset, or nil when net/http may
// end it well.
func (a *answer) end() error {
	switch {
	case a.aborted != nil:
		return a.aborted
	case a.err != nil:
		return a.err
	case !a.Begun():
		return errNoAnswer
	}
	if err := a.account.Finish(); err != nil {
		return err
	}
	if n := a.account.Cut(); n > 0 {
		a.stream.server.log.Warn("answer is longer than its declared length; the rest was not sent",
			"request_id", a.stream.x.ID, "app", a.stream.x.App, "bytes", n)
	}
	// What is buffered now leaves after this goroutine has returned to net/http, whose
	// deadline is then the only one that can end it.
	if a.writeIdle > 0 && a.account.Carries() {
		limit := time.Now().Add(a.writeIdle)
		if !a.deadline.IsZero() && a.deadline.Before(limit) {
			return nil
		}
		if err := a.control.SetWriteDeadline(limit); err != nil {
			return fmt.Errorf("write deadline: %w", err)
		}
	}
	return nil
}

func (a *answer) outcome(err error) lane.Outcome {
	return lane.Outcome{Status: a.status, BytesOut: a.account.Sent(), Err: err}
}
