package pages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// answer collects the answer to an exchange of the host's own.
type answer struct {
	most    int
	head    exchange.Head
	begun   bool
	body    []byte
	problem *exchange.Problem
	failure error
}

var errTooLong = errors.New("the answer is longer than a message may be")

// Informational is for browsers.
func (a *answer) Informational(int, []exchange.Field) error { return nil }

// Head keeps a copy: the fields are the worker's.
func (a *answer) Head(h exchange.Head) error {
	a.begun, a.head = true, h
	a.head.Fields = make([]exchange.Field, len(h.Fields))
	for i, f := range h.Fields {
		a.head.Fields[i] = exchange.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)}
	}
	return nil
}

func (a *answer) Write(p []byte) (int, error) {
	if err := a.grow(len(p)); err != nil {
		return 0, err
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *answer) grow(n int) error {
	if a.failure == nil && len(a.body)+n > a.most {
		a.failure = errTooLong
	}
	if a.failure != nil {
		return fmt.Errorf("%w: %w", exchange.ErrClientGone, a.failure)
	}
	return nil
}

// File reads it.
func (a *answer) File(f exchange.File, offset, count int64) error {
	if count > int64(a.most) {
		count = int64(a.most) + 1
	}
	if err := a.grow(int(count)); err != nil {
		return err
	}
	data := make([]byte, count)
	n, err := f.ReadAt(data, offset)
	a.body = append(a.body, data[:n]...)
	if err != nil && (int64(n) < count || !errors.Is(err, io.EOF)) {
		a.failure = err
		return err
	}
	return nil
}

// Trailers are for browsers.
func (a *answer) Trailers([]exchange.Field) error { return nil }

// Flush has nothing to do: an answer is given as a whole.
func (a *answer) Flush() error { return nil }

// Abort ends an answer that is not complete.
func (a *answer) Abort(err error) {
	if p := (*exchange.Problem)(nil); errors.As(err, &p) && a.problem == nil {
		a.problem = p
	}
	if a.failure == nil {
		a.failure = err
	}
}

// Problem is the host's own answer.
func (a *answer) Problem(_ *exchange.Exchange, p *exchange.Problem) {
	a.problem = p
	a.head.Status = p.Status
}

func (a *answer) Begun() bool { return a.begun }

// ended is how it was, for the figures.
func (a *answer) ended() exchange.Outcome {
	return exchange.Outcome{Status: a.head.Status, BytesOut: int64(len(a.body)), Err: a.failure, At: time.Now()}
}

// refusals are codes of problems after which nothing was done.
var refusals = map[string]bool{
	"queue_full": true, "queue_timeout": true, "maintenance": true, "paused": true, "not_ready": true, "stopping": true,
}

// hosts tells what the host's own answer means to a client.
func hosts(p *exchange.Problem) outcome {
	switch {
	case p.Code == "worker_died" || p.Status == 502:
		return outcome{lost: true, err: &push.ReplyError{Code: push.ReplyLost, Message: "its worker died: it may have been done, or not"}}
	case refusals[p.Code] || p.Status == 503:
		return outcome{wait: true, err: &push.ReplyError{Code: push.ReplyBusy, Message: "the server has no room now; nothing was done"}}
	case p.Code == "deadline" || p.Status == 504:
		return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "it took too long"}}
	}
	return outcome{err: &push.ReplyError{Code: fmt.Sprintf("http_%d", p.Status), Message: p.Code}}
}

// turn reads the answer to a turn.
func (a *answer) turn() outcome {
	switch {
	case a.problem != nil:
		return hosts(a.problem)
	case a.failure != nil && errors.Is(a.failure, errTooLong):
		return outcome{err: &push.ReplyError{Code: "too_big", Message: errTooLong.Error()}}
	case a.failure != nil:
		return outcome{lost: true, err: &push.ReplyError{Code: push.ReplyLost, Message: "the answer was cut"}}
	}
	var said struct {
		Data    json.RawMessage `json:"data"`
		Code    string          `json:"code"`
		Message string          `json:"message"`
	}
	if err := json.Unmarshal(a.body, &said); err != nil {
		return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "the handler's answer cannot be read"}}
	}
	if a.head.Status == 200 {
		return outcome{data: said.Data}
	}
	if said.Code == "" {
		said.Code = push.ReplyFailed
	}
	return outcome{err: &push.ReplyError{Code: said.Code, Message: said.Message}}
}

// field gives a field of the head.
func (a *answer) field(name string) string {
	for _, f := range a.head.Fields {
		if f.Is(name) {
			return string(f.Value)
		}
	}
	return ""
}

// mostText is how much of an error's text a client is told.
const mostText = 2 << 10

// request reads the answer to a message that was made a request.
func (a *answer) request() outcome {
	switch {
	case a.problem != nil:
		return hosts(a.problem)
	case errors.Is(a.failure, errTooLong):
		return outcome{err: &push.ReplyError{Code: "too_big", Message: errTooLong.Error()}}
	case a.failure != nil:
		return outcome{lost: true, err: &push.ReplyError{Code: push.ReplyLost, Message: "the answer was cut"}}
	}
	kind, _, _ := strings.Cut(strings.ToLower(a.field("content-type")), ";")
	kind = strings.TrimSpace(kind)
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	status := a.head.Status
	switch {
	case status < 200 || status > 299:
		text := http.StatusText(status)
		if (isJSON || strings.HasPrefix(kind, "text/plain")) && len(a.body) > 0 && utf8.Valid(a.body) {
			text = string(a.body[:min(len(a.body), mostText)])
		}
		return outcome{err: &push.ReplyError{Code: fmt.Sprintf("http_%d", status), Message: strings.ToValidUTF8(text, "")}}
	case len(a.body) == 0:
		return outcome{}
	case isJSON:
		return outcome{data: a.body}
	case (strings.HasPrefix(kind, "text/") || kind == "") && utf8.Valid(a.body):
		text, err := json.Marshal(string(a.body))
		if err == nil {
			return outcome{data: text}
		}
	}
	return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "the answer is neither JSON nor text in UTF-8"}}
}

// ---- exchange.Body --------------------------------------------------------------------

// content is the body of an exchange of the host's own.
type content struct {
	data []byte
	read int
}

func (c *content) Read(p []byte) (int, error) {
	n := copy(p, c.data[c.read:])
	c.read += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (*content) Trailers() []exchange.Field { return nil }
func (*content) Interrupt()                 {}
