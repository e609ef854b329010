package gohandler

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// holdBytes is how much of an answer without a length is kept back, so that a short
// one leaves with its Content-Length, as net/http does it.
const holdBytes = 4 << 10

// writer is the http.ResponseWriter over an exchange's answer. It is also a Flusher,
// Hijacker, io.ReaderFrom and io.StringWriter, and what http.ResponseController asks.
type writer struct {
	x      *exchange.Exchange
	header http.Header
	log    *slog.Logger

	status   int // 0: WriteHeader was not called
	fields   []exchange.Field
	trailers []string // names announced in Trailer
	length   int64    // declared by the handler; -1 none
	held     []byte   // body before the head has left
	written  int64
	sent     bool // the head has left
	hijacked bool
	err      error // of the answer, the same ever after
}

func (w *writer) Header() http.Header { return w.header }

// WriteHeader takes a copy of the fields: what the handler changes later counts as
// trailers only.
func (w *writer) WriteHeader(status int) {
	if w.hijacked || w.status != 0 {
		w.log.Warn("Go handler called WriteHeader again", "request_id", w.x.ID, "app", w.x.App, "status", status)
		return
	}
	if status < 100 || status > 999 {
		panic("invalid WriteHeader code " + strconv.Itoa(status)) // net/http does the same: a bug of the handler
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		if err := w.x.Answer.Informational(status, fieldsOf(w.header)); err != nil {
			w.err = err
		}
		return
	}
	w.status, w.length = status, -1
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.length = n
	}
	for _, line := range w.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			w.trailers = append(w.trailers, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	w.fields = fieldsOf(w.header, w.trailers...)
}

func (w *writer) bodyAllowed() bool { return w.status >= 200 && w.status != 204 && w.status != 304 }

func (w *writer) Write(p []byte) (int, error) {
	if w.hijacked {
		return 0, http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !w.bodyAllowed() {
		return 0, http.ErrBodyNotAllowed
	}
	if w.length >= 0 && w.written+int64(len(p)) > w.length {
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	if !w.sent {
		if w.length < 0 && len(w.held)+len(p) <= holdBytes {
			w.held = append(w.held, p...)
			return len(p), nil
		}
		if err := w.sendHead(p, false); err != nil {
			return 0, err
		}
	}
	return len(p), w.body(p)
}

func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

func (w *writer) body(p []byte) error {
	if w.x.Method == http.MethodHead || len(p) == 0 {
		return w.err
	}
	if _, err := w.x.Answer.Write(p); err != nil {
		w.err = err
	}
	return w.err
}

// sendHead sends the head and what was held back. next is what follows, for content
// sniffing; complete says that the held bytes are the whole body.
func (w *writer) sendHead(next []byte, complete bool) error {
	w.sent = true
	sample := w.held
	if len(sample) == 0 {
		sample = next
	}
	if len(sample) > 0 && !hasField(w.fields, "Content-Type") && !hasField(w.fields, "Content-Encoding") {
		w.fields = append(w.fields, exchange.Field{Name: []byte("Content-Type"), Value: []byte(http.DetectContentType(sample))})
	}
	length := w.length
	// HEAD without a written body says nothing of the length that GET would have.
	if complete && length < 0 && w.bodyAllowed() && (w.x.Method != http.MethodHead || len(w.held) > 0) {
		length = int64(len(w.held))
	}
	if err := w.x.Answer.Head(exchange.Head{Status: w.status, Fields: w.fields, Length: length}); err != nil {
		w.err = err
		return err
	}
	held := w.held
	w.held = nil
	return w.body(held)
}

// Flush and FlushError send what there is.
func (w *writer) Flush() { _ = w.FlushError() } // http.Flusher has no error; the next Write reports it

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	if w.hijacked {
		return http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err == nil && !w.sent {
		_ = w.sendHead(nil, false) // kept in w.err
	}
	if w.err == nil {
		w.err = w.x.Answer.Flush()
	}
	return w.err
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// ReadFrom copies src; a regular file, as http.ServeContent gives it, is handed to
// the lane, which may use sendfile.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	if n, ok, err := w.file(src); ok {
		return n, err
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{src}, *buf)
}

// file sends src by its descriptor when it is an *os.File or a limited one, the
// length was declared, and nothing of it must be looked at first.
func (w *writer) file(src io.Reader) (int64, bool, error) {
	limit := int64(-1)
	limited, ok := src.(*io.LimitedReader)
	if ok {
		src, limit = limited.R, limited.N
	}
	f, ok := src.(*os.File)
	if !ok || w.hijacked || w.x.Method == http.MethodHead {
		return 0, false, nil
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.length < 0 || !w.bodyAllowed() || (!hasField(w.fields, "Content-Type") && !w.sent) {
		return 0, false, nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, false, nil //nolint:nilerr // the copy by Read reports what is wrong with the file
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, false, nil //nolint:nilerr // as above
	}
	count := max(0, info.Size()-at)
	if limit >= 0 {
		count = min(count, limit)
	}
	if w.written+count > w.length {
		return 0, false, nil // Write cuts it and says so
	}
	if w.err == nil && !w.sent {
		_ = w.sendHead(nil, false) // kept in w.err
	}
	if w.err == nil {
		w.err = w.x.Answer.File(f, at, count)
	}
	if w.err != nil {
		return 0, true, w.err
	}
	w.written += count
	if limited != nil {
		limited.N -= count
	}
	_, err = f.Seek(at+count, io.SeekStart)
	return count, true, err
}

// Hijack hands the connection over (HTTP/1.1 only).
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := w.x.Answer.(exchange.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	if w.hijacked {
		return nil, nil, http.ErrHijacked
	}
	conn, buffered, err := h.Hijack()
	if err != nil {
		return nil, nil, notSupported(err)
	}
	w.hijacked = true
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(buffered), conn), max(4<<10, len(buffered)))
	if len(buffered) > 0 {
		// WebSocket libraries look at Buffered, not at the reader behind.
		if _, err := r.Peek(len(buffered)); err != nil {
			return nil, nil, err
		}
	}
	return conn, bufio.NewReadWriter(r, bufio.NewWriter(conn)), nil
}

// notSupported gives the error by which users of net/http know what a lane cannot do.
func notSupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return http.ErrNotSupported
	}
	return err
}

// SetReadDeadline is what http.ResponseController calls.
func (w *writer) SetReadDeadline(t time.Time) error {
	if d, ok := w.x.Answer.(exchange.Deadliner); ok {
		return notSupported(d.SetReadDeadline(t))
	}
	return http.ErrNotSupported
}

// SetWriteDeadline is what http.ResponseController calls.
func (w *writer) SetWriteDeadline(t time.Time) error {
	if d, ok := w.x.Answer.(exchange.Deadliner); ok {
		return notSupported(d.SetWriteDeadline(t))
	}
	return http.ErrNotSupported
}

// EnableFullDuplex has nothing to enable: a body may always be read beside the answer.
func (w *writer) EnableFullDuplex() error { return nil }

// finish ends the answer of a handler that returned.
func (w *writer) finish() {
	if w.hijacked || w.x.Problem != nil { // upstream refuses through the exchange
		return
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	trailers := w.trailerFields()
	if w.err == nil && !w.sent {
		// A body with a length has no place for trailers in HTTP/1.1.
		_ = w.sendHead(nil, len(trailers) == 0) // kept in w.err
	}
	if w.err == nil && len(trailers) > 0 {
		w.err = w.x.Answer.Trailers(trailers)
	}
	if w.err != nil {
		w.x.Answer.Abort(w.err)
	}
}

func (w *writer) fail(p *exchange.Problem) {
	if !w.hijacked {
		w.x.Fail(p)
	}
}

func (w *writer) abort(err error) {
	if !w.hijacked {
		w.x.Answer.Abort(err)
	}
}

// trailerFields are the fields announced in Trailer and those set with
// http.TrailerPrefix.
func (w *writer) trailerFields() []exchange.Field {
	var out []exchange.Field
	for _, name := range w.trailers {
		for _, v := range w.header[name] {
			out = append(out, field(name, v))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.header)) {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			for _, v := range w.header[key] {
				out = append(out, field(name, v))
			}
		}
	}
	return out
}

// fieldsOf makes a head's fields, sorted by name as net/http sends them. The lane
// frames the answer: Content-Length and the fields of the connection are not its.
func fieldsOf(h http.Header, without ...string) []exchange.Field {
	out := make([]exchange.Field, 0, len(h)+1)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch name {
		case "Connection":
			if closes(h[name]) {
				out = append(out, field(name, "close"))
			}
			continue
		case "Content-Length", "Transfer-Encoding", "Keep-Alive", "Proxy-Connection", "Upgrade":
			continue
		}
		if strings.HasPrefix(name, http.TrailerPrefix) || slices.Contains(without, name) {
			continue
		}
		for _, v := range h[name] {
			out = append(out, field(name, v))
		}
	}
	return out
}

// closes reports whether the handler asks for the end of the connection: of all that
// the field can say, the lane honours this.
func closes(values []string) bool {
	for _, v := range values {
		for option := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "close") {
				return true
			}
		}
	}
	return false
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ")

func field(name, value string) exchange.Field {
	return exchange.Field{Name: []byte(name), Value: []byte(oneLine.Replace(value))}
}

func hasField(fields []exchange.Field, name string) bool {
	return slices.ContainsFunc(fields, func(f exchange.Field) bool { return f.Is(name) })
}
