// Package basicauth asks clients of a mount for a name and a password (RFC 7617) and
// checks them against an htpasswd file.
// Before it: route, access. After it: what is mounted.
// Not here: logins of applications, which see the field unless it is to be taken off.
package basicauth

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one mount.
type Options struct {
	File  string // htpasswd with bcrypt hashes; read again when it changes
	Realm string
	// Strip takes the field off what the steps behind see.
	Strip bool
	Log   *slog.Logger
}

// Handler is the step.
type Handler struct {
	next      exchange.Handler
	users     *users
	checker   *checker
	strip     bool
	challenge []exchange.Field
}

// New reads the file and puts the step in front of next.
func New(next exchange.Handler, o Options) (*Handler, error) {
	u, err := openUsers(o.File, o.Log)
	if err != nil {
		return nil, err
	}
	realm := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(o.Realm)
	return &Handler{
		next: next, users: u, checker: newChecker(), strip: o.Strip,
		challenge: []exchange.Field{{Name: []byte("WWW-Authenticate"), Value: []byte(`Basic realm="` + realm + `", charset="UTF-8"`)}},
	}, nil
}

// Serve lets x pass with a name and its password, or refuses it with 401.
func (h *Handler) Serve(x *exchange.Exchange) {
	name, password, given := credentials(x)
	if !given {
		x.Fail(&exchange.Problem{Status: 401, Code: "password_required", Fields: h.challenge})
		return
	}
	hash, known := h.users.find(string(name))
	switch v := h.checker.check(x, hash, password); {
	case v == right && known:
		x.User = string(name)
		if h.strip {
			strip(x)
		}
		h.next.Serve(x)
	case v == busy:
		x.Fail(&exchange.Problem{Status: 503, Code: "passwords_busy", RetryAfter: 1})
	case v == left:
		x.Answer.Abort(exchange.ErrClientGone)
	default:
		x.Fail(&exchange.Problem{Status: 401, Code: "password_wrong", Fields: h.challenge})
	}
}

const field = "authorization"

// credentials reads the one Authorization field of x. Several of them could be read in
// two ways, by us and by the application: they count as none.
func credentials(x *exchange.Exchange) (name, password []byte, ok bool) {
	var value []byte
	for _, f := range x.Fields {
		if f.Is(field) {
			if value != nil {
				return nil, nil, false
			}
			value = f.Value
		}
	}
	scheme, rest, _ := bytes.Cut(value, []byte{' '})
	if !exchange.EqualFold(scheme, "basic") {
		return nil, nil, false
	}
	plain, err := base64.StdEncoding.AppendDecode(nil, bytes.Trim(rest, " "))
	if err != nil {
		return nil, nil, false
	}
	return bytes.Cut(plain, []byte{':'})
}

// strip takes the field off in place.
func strip(x *exchange.Exchange) {
	left := x.Fields[:0]
	for _, f := range x.Fields {
		if !f.Is(field) {
			left = append(left, f)
		}
	}
	x.Fields = left
}
