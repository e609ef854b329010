package edge

import (
	"strconv"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// extraFields are those that the host itself puts into answers.
type extraFields struct {
	exposeID bool
	hsts     []byte
}

func newExtraFields(o *Options) extraFields {
	e := extraFields{exposeID: o.ExposeRequestID}
	if o.HSTS > 0 {
		e.hsts = []byte("max-age=" + strconv.FormatInt(int64(o.HSTS/time.Second), 10))
	}
	return e
}

// appendTo leaves alone what a step has set itself: two would contradict each other.
func (e *extraFields) appendTo(fields []exchange.Field, x *exchange.Exchange) []exchange.Field {
	if e.exposeID && !has(fields, idName) {
		fields = append(fields, exchange.Field{Name: idName, Value: []byte(x.ID)})
	}
	if e.hsts != nil && x.Scheme == "https" && !has(fields, hstsName) {
		fields = append(fields, exchange.Field{Name: hstsName, Value: e.hsts})
	}
	return fields
}

func has(fields []exchange.Field, name []byte) bool {
	for i := range fields {
		if fields[i].Is(string(name)) {
			return true
		}
	}
	return false
}

// withFields puts them into the answers of the steps behind, where there are any. Error
// pages get theirs when they are rendered: some never reach a step.
func withFields(next exchange.Handler, e extraFields) exchange.Handler {
	if !e.exposeID && e.hsts == nil {
		return next
	}
	return &fieldAdder{next: next, extra: e}
}

type fieldAdder struct {
	next  exchange.Handler
	extra extraFields
}

var (
	idName   = []byte("X-Request-ID")
	hstsName = []byte("Strict-Transport-Security")
)

// addedAnswer is an Answer whose head has more fields.
type addedAnswer struct {
	exchange.Around
	x     *exchange.Exchange
	adder *fieldAdder
	room  []exchange.Field
}

var addedKey exchange.Key // of *addedAnswer

// Serve lends x another Answer for as long as the steps behind work.
func (f *fieldAdder) Serve(x *exchange.Exchange) {
	a, _ := x.Kept(&addedKey).(*addedAnswer)
	if a == nil {
		a = &addedAnswer{}
	}
	a.Answer, a.x, a.adder = x.Answer, x, f
	x.Answer = a
	defer func() {
		x.Answer = a.Answer
		*a = addedAnswer{room: a.room[:0]}
		x.Keep(&addedKey, a)
	}()
	f.next.Serve(x)
}

func (a *addedAnswer) Head(h exchange.Head) error { return a.Answer.Head(a.added(h)) }

// Switch see [exchange.Switcher].
func (a *addedAnswer) Switch(h exchange.Head) exchange.Head { return a.Around.Switch(a.added(h)) }

func (a *addedAnswer) added(h exchange.Head) exchange.Head {
	a.room = a.adder.extra.appendTo(append(a.room[:0], h.Fields...), a.x)
	h.Fields = a.room
	return h
}
