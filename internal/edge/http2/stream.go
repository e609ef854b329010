package http2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/exchange"
)

// stream is one request of a connection and its answer. It is used again for
// another one, of any connection.
type stream struct {
	x      *exchange.Exchange
	server *Server
	conn   *conn
	body   body
	answer answer
	names  []string
	arena  []byte // the bytes of Fields and Target
	// whole: net/http has ended the stream well while the step still works, as it does
	// after the head of an answer to HEAD.
	whole atomic.Bool
}

var streams = sync.Pool{New: func() any { return &stream{x: exchange.New()} }}

// serveHTTP runs one stream. It ends by panic(http.ErrAbortHandler) when the answer
// must not look complete: net/http then resets the stream.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s.busy.Add()
	defer s.busy.Done()
	s.streams.Add(1)
	defer s.streams.Add(-1)
	c := r.Context().Value(connKey{}).(*conn)
	st := streams.Get().(*stream)
	control := http.NewResponseController(w)
	st.server, st.conn = s, c
	st.x.Reset()
	st.whole.Store(false)
	st.body.reset(r, s.limits, control)
	st.answer.reset(w, st, control)

	whenGone := context.AfterFunc(r.Context(), func() {
		st.x.SetGone(exchange.Closed)
		if !st.whole.Load() {
			c.streamCut()
		}
	})
	st.serve(r)
	err := st.answer.end()
	out := st.answer.outcome(err)
	out.BytesIn = st.body.count
	s.hooks.Done(st.x, out)

	// When the function above has begun, the stream may still be in its hands.
	if whenGone() {
		st.release()
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (st *stream) release() {
	if cap(st.arena) > 64<<10 {
		st.arena = nil
	}
	st.body.release()
	st.answer.release()
	st.conn, st.server = nil, nil
	streams.Put(st)
}

func (st *stream) serve(r *http.Request) {
	x := st.x
	x.Received = time.Now()
	x.Answer = &st.answer
	x.Body = &st.body
	if p := st.read(r); p != nil {
		x.Fail(p)
		return
	}
	if p, _ := st.server.hooks.Prepare(x, st.conn.Conn); p != nil {
		x.Fail(p)
		return
	}
	if r.Context().Err() != nil {
		st.answer.Abort(exchange.ErrClientGone)
		return
	}
	st.call()
}

// call keeps what a step does wrong to its own exchange: a panic, and a return
// without an answer.
func (st *stream) call() {
	x := st.x
	defer func() {
		switch p := recover(); {
		case p != nil:
			stack := make([]byte, 16<<10)
			stack = stack[:runtime.Stack(stack, false)]
			st.server.log.Error("panic while serving", "request_id", x.ID, "app", x.App, "panic", fmt.Sprint(p), "stack", string(stack))
			x.Fail(&exchange.Problem{Status: http.StatusInternalServerError, Code: "internal_error", Err: fmt.Errorf("panic: %v", p)})
		case !st.answer.Begun() && st.answer.failed() == nil && x.Gone() == exchange.Present:
			x.Fail(&exchange.Problem{Status: http.StatusInternalServerError, Code: "no_answer", Err: errNoAnswer})
		}
	}()
	st.server.hooks.Handler.Serve(x)
}

var errNoAnswer = errors.New("handler returned without an answer")

// read fills x.Request from what net/http has parsed: all of it is copied once, into
// one piece of memory.
func (st *stream) read(r *http.Request) *exchange.Problem {
	x, limits := st.x, &st.server.limits
	x.Version, x.Method = exchange.HTTP2, r.Method
	x.Length = r.ContentLength
	x.TLS = st.conn.TLS
	st.names = st.names[:0]
	count, size := 0, len(r.Method)+len(r.RequestURI)+len(r.Host)
	for name, values := range r.Header {
		st.names = append(st.names, name)
		for _, v := range values {
			count++
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	st.arena = slices.Grow(st.arena[:0], size)
	x.Target = st.keep(r.RequestURI)
	switch {
	case size > limits.HeadBytes:
		return &exchange.Problem{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "head_too_large"}
	case count > limits.Fields:
		return &exchange.Problem{Status: http.StatusRequestHeaderFieldsTooLarge, Code: "too_many_fields"}
	case len(r.RequestURI) > limits.TargetBytes:
		return &exchange.Problem{Status: http.StatusRequestURITooLong, Code: "uri_too_long"}
	case !framing.ValidName([]byte(r.Method)):
		return &exchange.Problem{Status: http.StatusBadRequest, Code: "bad_method"}
	}
	x.Host = st.keep(r.Host)
	// net/http keeps the order within a name only; sorted is at least the same each time.
	slices.Sort(st.names)
	for _, name := range st.names {
		for _, v := range r.Header[name] {
			x.Fields = append(x.Fields, exchange.Field{Name: st.keepLower(name), Value: st.keep(v)})
		}
	}
	x.TrailersOK = len(r.Header["Te"]) == 1 && r.Header["Te"][0] == "trailers"
	return st.checkLength(r)
}

// checkLength is strict where net/http takes the first of several Content-Length
// fields, reads "+5" as 0, and ignores one on a request that has no body.
func (st *stream) checkLength(r *http.Request) *exchange.Problem {
	if values := r.Header["Content-Length"]; len(values) > 0 {
		n, err := strconv.ParseUint(values[0], 10, 63)
		if err != nil || len(values) > 1 || int64(n) != r.ContentLength {
			return &exchange.Problem{Status: http.StatusBadRequest, Code: "bad_content_length",
				Err: errors.New("Content-Length is not one number that matches the body")}
		}
	}
	if limit := st.server.limits.BodyBytes; limit > 0 && r.ContentLength > limit {
		return &exchange.Problem{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large"}
	}
	return nil
}

func (st *stream) keep(s string) []byte {
	from := len(st.arena)
	st.arena = append(st.arena, s...)
	return st.arena[from:len(st.arena):len(st.arena)]
}

// keepLower gives a name as it was on the wire; net/http has capitalised it.
func (st *stream) keepLower(s string) []byte {
	b := st.keep(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return b
}
