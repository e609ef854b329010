package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/guado-server/guado/internal/exchange"
)

// Policy is what a mount asks for.
type Policy struct {
	Required bool // a request that changes something must have a key
}

type step struct {
	store  *Store
	policy Policy
	next   exchange.Handler
}

// Step puts the keeping of answers in front of an application.
func (s *Store) Step(p Policy, next exchange.Handler) exchange.Handler {
	return &step{s, p, next}
}

var (
	errMissing  = errors.New("the mount wants an Idempotency-Key with each request that changes something")
	errBadKey   = errors.New("an Idempotency-Key is one field of 1 to 255 visible ASCII characters, with or without quotation marks")
	errUpgrade  = errors.New("a WebSocket has no answer that could be kept under an Idempotency-Key")
	errRunning  = errors.New("the first request with this Idempotency-Key is under way")
	errOther    = errors.New("the first request with this Idempotency-Key was another one")
	errNotKept  = errors.New("the answer to the first request with this Idempotency-Key cannot be kept now, and is not told")
	errNoAnswer = errors.New("the first request with this Idempotency-Key was done, or some of it, and there is no answer to give again")
)

// Serve see [exchange.Handler].
func (t *step) Serve(x *exchange.Exchange) {
	key, problem := t.key(x)
	switch {
	case problem != nil:
		t.store.counted(func(s *Status) { s.Bad++ })
		x.Fail(problem)
		return
	case key == "":
		t.next.Serve(x)
		return
	}
	e, first := t.store.begin(identify(x, key))
	if first {
		t.first(x, e)
		return
	}
	t.again(x, e)
}

// key is the key of a request; empty: it has none, or needs none.
func (t *step) key(x *exchange.Exchange) (string, *exchange.Problem) {
	var value []byte
	n := 0
	for i := range x.Fields {
		if x.Fields[i].Is("idempotency-key") {
			value, n = x.Fields[i].Value, n+1
		}
	}
	changes := !isSafe(x.Method)
	switch {
	case n == 0 && changes && t.policy.Required:
		return "", &exchange.Problem{Status: 400, Code: "idempotency_key_missing", Err: errMissing}
	case n > 0 && x.Upgrader != nil:
		return "", &exchange.Problem{Status: 400, Code: "idempotency_upgrade", Err: errUpgrade}
	case n == 0 || !changes:
		return "", nil
	}
	key, ok := parseKey(value)
	if n > 1 || !ok {
		return "", &exchange.Problem{Status: 400, Code: "bad_idempotency_key", Err: errBadKey}
	}
	return key, nil
}

// isSafe reports whether a method changes nothing: such a request may be done again.
func isSafe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

const longestKey = 255

// parseKey reads a key as clients send it: a string of RFC 8941 in quotation marks, as the
// standard has it, or without.
func parseKey(value []byte) (string, bool) {
	quoted := len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"'
	if quoted {
		value = value[1 : len(value)-1]
	}
	key := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case quoted && c == '\\':
			if i++; i == len(value) || value[i] != '"' && value[i] != '\\' {
				return "", false
			}
			c = value[i]
		case c == '"', c > 0x7e, c < 0x20, c == ' ' && !quoted:
			return "", false
		}
		key = append(key, c)
	}
	return string(key), 0 < len(key) && len(key) <= longestKey
}

// identify binds a key to whose it is and what it is for. Without a connection it is whose
// the credentials are.
func identify(x *exchange.Exchange, key string) id {
	var who exchange.Who
	if x.Who != nil {
		who = *x.Who
	}
	credentials := []byte(nil)
	if who.Connection == "" {
		credentials = x.Field("authorization")
	}
	h := sha256.New()
	for _, part := range [][]byte{
		hostName(x.Host), []byte(x.Method), x.Path, []byte(who.Connection), []byte(who.User), []byte(x.User), credentials, []byte(key),
	} {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return id(h.Sum(nil))
}

// hostName is a host without its port, which says nothing of who is asked.
func hostName(host []byte) []byte {
	if at := bytes.LastIndexByte(host, ':'); at > bytes.LastIndexByte(host, ']') {
		host = host[:at]
	}
	return bytes.ToLower(host)
}

// first does the request, and keeps how it was answered.
func (t *step) first(x *exchange.Exchange, e *entry) {
	r := &first{Around: exchange.Around{Answer: x.Answer}, store: t.store, entry: e, x: x, body: newBody(x)}
	x.Body, x.Answer, x.Once, x.Stays = r.body, r, r, true
	defer func() {
		r.end()
		x.Body, x.Answer, x.Once, x.Stays = r.body.Body, r.Answer, nil, false
	}()
	t.next.Serve(x)
}

// again answers a request that is not the first one with its key.
func (t *step) again(x *exchange.Exchange, e *entry) {
	s := t.store
	told := s.told(e)
	if told.running {
		s.counted(func(st *Status) { st.Busy++ })
		x.Fail(&exchange.Problem{Status: 409, Code: "idempotency_running", RetryAfter: 1, Err: errRunning})
		return
	}
	same, problem := told.finger.same(x)
	unknown := told.finger.Sum == nil // what it was is lost, too
	switch {
	case problem != nil:
	case !same && !unknown:
		s.counted(func(st *Status) { st.Other++ })
		problem = &exchange.Problem{Status: 422, Code: "idempotency_mismatch", Err: errOther}
	case told.answer == nil && told.why == whyLong:
		s.counted(func(st *Status) { st.Without++ })
		problem = &exchange.Problem{Status: 409, Code: "idempotency_not_kept", Err: errNoAnswer}
	case told.answer == nil:
		s.counted(func(st *Status) { st.Without++ })
		problem = &exchange.Problem{Status: 409, Code: "idempotency_lost", Err: errNoAnswer}
	case s.opts.Wait != nil && s.opts.Wait() != nil:
		problem = &exchange.Problem{Status: 503, Code: "durability_unavailable", RetryAfter: 1, Err: errNotKept}
	default:
		s.counted(func(st *Status) { st.Replayed++ })
		told.answer.give(x)
		return
	}
	x.Fail(problem)
}
