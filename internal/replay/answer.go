package replay

import (
	"errors"
	"io"

	"github.com/guado-server/guado/internal/exchange"
)

// Answer is one that is kept: of the application, or the host's own with a code.
type Answer struct {
	Status   int     `json:"status"`
	Reason   string  `json:"reason,omitempty"`
	Fields   []Field `json:"fields,omitempty"`
	Length   int64   `json:"length"`
	Body     []byte  `json:"body,omitempty"`
	Trailers []Field `json:"trailers,omitempty"`
	Code     string  `json:"code,omitempty"` // of the host's own
}

// Field is a field of an answer.
type Field struct {
	Name  []byte `json:"name"`
	Value []byte `json:"value"`
}

const (
	fieldCost  = 48
	answerCost = 256
)

func (a *Answer) size() int64 {
	if a == nil {
		return 0
	}
	n := int64(answerCost + len(a.Reason) + len(a.Body))
	for _, list := range [][]Field{a.Fields, a.Trailers} {
		for _, f := range list {
			n += int64(fieldCost + len(f.Name) + len(f.Value))
		}
	}
	return n
}

func ownFields(fields []exchange.Field) []Field {
	out := make([]Field, len(fields))
	for i, f := range fields {
		out[i] = Field{append([]byte(nil), f.Name...), append([]byte(nil), f.Value...)}
	}
	return out
}

func lentFields(fields []Field) []exchange.Field {
	out := make([]exchange.Field, len(fields), len(fields)+1)
	for i, f := range fields {
		out[i] = exchange.Field(f)
	}
	return out
}

func ownAnswer(h exchange.Head) *Answer {
	return &Answer{Status: h.Status, Reason: h.Reason, Fields: ownFields(h.Fields), Length: h.Length}
}

// streams reports whether an answer has no end that could be waited for.
func streams(h exchange.Head) bool {
	for i := range h.Fields {
		if f := &h.Fields[i]; f.Is("content-type") && len(f.Value) >= len(eventStream) && exchange.EqualFold(f.Value[:len(eventStream)], eventStream) {
			return true
		}
	}
	return false
}

const eventStream = "text/event-stream"

// give answers an exchange as the first one was.
func (a *Answer) give(x *exchange.Exchange) {
	if a.Code != "" {
		status, code := a.Status, a.Code
		x.Fail(&exchange.Problem{Status: status, Code: code, Fields: []exchange.Field{fieldReplayed}, Err: errReplayed})
		return
	}
	h := exchange.Head{Status: a.Status, Reason: a.Reason, Fields: append(lentFields(a.Fields), fieldReplayed), Length: a.Length}
	if h.Length < 0 && len(a.Body) > 0 {
		h.Length = int64(len(a.Body))
	}
	err := x.Answer.Head(h)
	if err == nil && len(a.Body) > 0 {
		_, err = x.Answer.Write(a.Body)
	}
	if err == nil && len(a.Trailers) > 0 {
		err = x.Answer.Trailers(lentFields(a.Trailers))
	}
	if err != nil {
		x.Answer.Abort(err)
	}
}

var (
	fieldReplayed = exchange.Field{Name: []byte("Idempotency-Replayed"), Value: []byte("true")}
	fieldNotKept  = exchange.Field{Name: []byte("Idempotency-Kept"), Value: []byte("false")}
	errReplayed   = errors.New("the first request with this Idempotency-Key was answered so")
)

// first is the first exchange with a key: it passes its answer on, and keeps it. Whether the
// client is still there is all one to the application, as long as there may be an answer
// to keep.
type first struct {
	exchange.Around
	store *Store
	entry *entry
	x     *exchange.Exchange
	body  *body

	answer *Answer // nil: it has no head, or is not to be kept
	size   int64
	left   bool // nobody reads it any more
	over   bool // how it ended is known
}

// Committed see [exchange.Once].
func (r *first) Committed() { r.store.commit(r.entry) }

// Keeps see [exchange.Once].
func (r *first) Keeps(payload []byte) any {
	if a := r.decode(payload); a != nil {
		return r.store.seal(r.entry, r.body.finger(), a, "")
	}
	return r.store.seal(r.entry, r.body.finger(), nil, whyLost)
}

// Answered see [exchange.Once].
func (r *first) Answered(payload []byte) {
	r.store.commit(r.entry)
	if a := r.decode(payload); a != nil {
		r.store.keep(r.entry, r.body.finger(), a, "")
	}
}

// decode reads a whole answer that is to be kept; nil: it is none.
func (r *first) decode(payload []byte) *Answer {
	if payload == nil {
		return nil
	}
	h, body, err := r.store.opts.Decode(payload, nil)
	if err != nil || streams(h) || h.Status == 101 {
		return nil // the exchange itself will see it
	}
	a := ownAnswer(h)
	a.Body = append([]byte(nil), body...)
	if a.size() > r.store.opts.Answer {
		return nil
	}
	return a
}

// Informational passes it on, if anybody is there.
func (r *first) Informational(status int, fields []exchange.Field) error {
	if r.left {
		return r.nobody()
	}
	return r.gone(r.Answer.Informational(status, fields))
}

// Head begins to keep the answer, unless it is one that could not be kept.
func (r *first) Head(h exchange.Head) error {
	r.store.commit(r.entry)
	a := ownAnswer(h)
	if r.size = a.size(); r.size+max(h.Length, 0) > r.store.opts.Answer || streams(h) {
		r.drop()
		h.Fields = append(h.Fields[:len(h.Fields):len(h.Fields)], fieldNotKept)
	} else {
		r.answer = a
	}
	return r.gone(r.Answer.Head(h))
}

// Write passes on what is kept.
func (r *first) Write(p []byte) (int, error) {
	if r.room(int64(len(p))) {
		r.answer.Body = append(r.answer.Body, p...)
	}
	if r.left {
		return len(p), r.nobody()
	}
	n, err := r.Answer.Write(p)
	if err = r.gone(err); err == nil {
		n = len(p)
	}
	return n, err
}

// File keeps a part of a file, if it is short.
func (r *first) File(f exchange.File, offset, count int64) error {
	if r.room(count) {
		part, err := io.ReadAll(io.NewSectionReader(f, offset, count))
		if err != nil {
			return err
		}
		r.answer.Body = append(r.answer.Body, part...)
	}
	if r.left {
		return r.nobody()
	}
	return r.gone(r.Answer.File(f, offset, count))
}

// Trailers see [exchange.Answer].
func (r *first) Trailers(fields []exchange.Field) error {
	own := ownFields(fields)
	if r.room((&Answer{Trailers: own}).size()) {
		r.answer.Trailers = own
	}
	if r.left {
		return r.nobody()
	}
	return r.gone(r.Answer.Trailers(fields))
}

// Flush see [exchange.Answer].
func (r *first) Flush() error {
	if r.left {
		return r.nobody()
	}
	return r.gone(r.Answer.Flush())
}

// room reports whether so much more is kept.
func (r *first) room(n int64) bool {
	if r.answer == nil {
		return false
	}
	if r.size += n; r.size > r.store.opts.Answer {
		r.drop()
		return false
	}
	return true
}

// drop keeps the answer no longer: from now on it is as any other one.
func (r *first) drop() {
	r.answer, r.x.Stays = nil, false
	r.store.keep(r.entry, r.body.finger(), nil, whyLong)
	r.store.opts.Log.Info("the answer to a request with an Idempotency-Key is not kept: it is a stream, or longer than idempotency.answer",
		"request_id", r.x.ID, "app", r.x.App, "path", string(r.x.Path))
}

// gone takes note of a client that does not read the answer any more, which is nobody
// else's business while the answer is kept.
func (r *first) gone(err error) error {
	if err == nil || r.answer == nil || !errors.Is(err, exchange.ErrClientGone) && !errors.Is(err, exchange.ErrSlowClient) {
		return err
	}
	r.left = true
	return nil
}

// nobody is told of an answer that nobody reads: to keep it is reason enough to go on.
func (r *first) nobody() error {
	if r.answer != nil {
		return nil
	}
	return exchange.ErrClientGone
}

// Abort ends an answer that nobody can be given again.
func (r *first) Abort(err error) {
	r.ended(nil)
	r.Answer.Abort(err)
}

// Problem keeps the host's own answer, where the application had begun with the request.
func (r *first) Problem(x *exchange.Exchange, p *exchange.Problem) {
	r.ended(p)
	r.Answer.Problem(x, p)
}

// applications are codes by which the host tells what the application did.
var applications = map[string]bool{"application_error": true, "application_protocol": true, "answer_unsendable": true}

// ended says how an exchange ended that has no complete answer of the application.
func (r *first) ended(p *exchange.Problem) {
	if r.over {
		return
	}
	r.over, r.answer = true, nil
	switch s := r.store; {
	case p != nil && (applications[p.Code] || p.Code == "deadline" && errors.Is(p.Err, exchange.ErrStarted)):
		s.keep(r.entry, r.body.finger(), &Answer{Status: p.Status, Code: p.Code}, "")
	case s.committed(r.entry), p != nil && errors.Is(p.Err, exchange.ErrStarted):
		s.keep(r.entry, r.body.finger(), nil, whyLost)
	default:
		s.release(r.entry)
	}
}

// end is called when the exchange is over.
func (r *first) end() {
	switch {
	case r.over:
	case r.answer != nil:
		r.over = true
		r.store.keep(r.entry, r.body.finger(), r.answer, "")
	case r.Begun():
		r.over = true
		r.store.keep(r.entry, r.body.finger(), nil, whyLong)
	default:
		r.ended(nil)
	}
	if r.left && r.x.Problem == nil { // for the access log
		r.x.Problem = &exchange.Problem{Status: 499, Code: "client_gone", Err: exchange.ErrClientGone}
		r.Answer.Abort(exchange.ErrClientGone)
	}
}
