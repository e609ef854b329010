package identity

import (
	"errors"
	"slices"

	"github.com/guado-server/guado/internal/exchange"
)

// Head takes the application's own Guado-* fields off, believes Guado-User where the mount
// says so, and sets the cookie.
func (v *visit) Head(h exchange.Head) error {
	h.Fields = v.head(h.Fields, true)
	return v.Answer.Head(h)
}

// Problem sets the cookie also in the host's own answers: the application may have logged
// in before it failed, and the cookie of before is no longer good.
func (v *visit) Problem(x *exchange.Exchange, p *exchange.Problem) {
	if cookie := v.leave(); cookie.Name != nil {
		with := *p
		with.Fields = append(slices.Clone(p.Fields), cookie)
		p = &with
	}
	v.Answer.Problem(x, p)
}

// leave notes that the head leaves, and gives the cookie that goes with it.
func (v *visit) leave() exchange.Field {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sent = true
	return v.cookieLocked()
}

var fieldPrivate = exchange.Field{Name: []byte("Cache-Control"), Value: []byte("private")}

// head is the fields of an answer as the client gets them.
func (v *visit) head(fields []exchange.Field, cached bool) []exchange.Field {
	ours, says := false, false
	for i := range fields {
		f := &fields[i]
		switch {
		case isOurs(f):
			ours = true
			if v.policy.trust && f.Is("guado-user") {
				v.answerSays(string(f.Value))
			}
		case f.Is("cache-control"):
			says = true
		}
	}
	v.mu.Lock()
	did := v.doLocked() // where nobody has told of a commit: what answers is no worker
	v.mu.Unlock()
	if did {
		v.server.registry.changes.tellAll()
	}
	cookie := v.leave()
	// An answer to one whom we know may be for nobody else.
	private := cached && !says && (v.who.Connection != "" || cookie.Name != nil)
	if !ours && !private && cookie.Name == nil {
		return fields
	}
	v.room = v.room[:0]
	for i := range fields {
		if !ours || !isOurs(&fields[i]) {
			v.room = append(v.room, fields[i])
		}
	}
	if private {
		v.room = append(v.room, fieldPrivate)
	}
	if cookie.Name != nil {
		v.room = append(v.room, cookie)
	}
	return v.room
}

func isOurs(f *exchange.Field) bool {
	const prefix = "guado-"
	return len(f.Name) > len(prefix) && f.Name[0]|0x20 == 'g' && exchange.EqualFold(f.Name[:len(prefix)], prefix)
}

// answerSays logs in whom the application names in its answer, or out.
func (v *visit) answerSays(name string) {
	v.mu.Lock()
	var err error
	if name == "" {
		err = v.logoutLocked()
	} else {
		_, err = v.loginLocked(name, "")
	}
	app, id := v.x.App, v.x.ID
	v.mu.Unlock()
	v.server.registry.changes.tellAll()
	if err != nil && !errors.Is(err, ErrStopping) {
		v.server.opts.Log.Error("the user that an answer names in Guado-User is not logged in", "app", app, "request_id", id, "error", err)
	}
}

// upgrade makes a WebSocket whose handshake sets the cookie.
type upgrade struct {
	exchange.Upgrader
	visit *visit
}

// Upgrade see [exchange.Upgrader].
func (u *upgrade) Upgrade(x *exchange.Exchange, fields []exchange.Field, h exchange.SocketHandler) (exchange.Socket, error) {
	return u.Upgrader.Upgrade(x, u.visit.head(fields, false), h)
}
