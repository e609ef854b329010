package identity

import (
	"slices"
	"strconv"

	"github.com/guado-server/guado/internal/exchange"
)

// Policy is what a mount asks for.
type Policy struct {
	TrustUser bool     // the field Guado-User of an answer logs in
	PageFrom  []string // where a request names its page, as page.from has it
}

type policy struct {
	trust bool
	pages pageSources
}

type step struct {
	server *Server
	policy policy
	next   exchange.Handler
}

// Step puts the recognition in front of an application: next finds who it is in x.Who, and
// the fields Guado-* that tell the application.
func (s *Server) Step(o Policy, next exchange.Handler) exchange.Handler {
	return &step{s, policy{o.TrustUser, parsePageSources(o.PageFrom)}, next}
}

// Serve makes nothing that lasts: a connection begins when the application asks for it.
func (t *step) Serve(x *exchange.Exchange) {
	v := t.server.begin(x)
	v.policy = &t.policy
	defer t.server.end(v)
	if p := v.recognize(x); p != nil {
		x.Fail(p)
		return
	}
	fields := len(x.Fields)
	x.Who, x.Answer = &v.who, v
	if x.Upgrader != nil {
		v.up = upgrade{x.Upgrader, v}
		x.Upgrader = &v.up
	}
	defer func() {
		// What was lent is taken back: the access log still has a look at x. Until then
		// [Visit.Read] may.
		v.mu.Lock()
		defer v.mu.Unlock()
		x.Who, x.Answer, x.Collected, x.Fields = nil, v.Answer, nil, x.Fields[:fields]
		if x.Upgrader != nil {
			x.Upgrader = v.up.Upgrader
		}
	}()
	v.mu.Lock()
	v.tell(x)
	v.mu.Unlock()
	if len(t.policy.pages.form) > 0 && v.who.Connection != "" && isForm(x) {
		x.Collected = v.collected
	}
	t.next.Serve(x)
}

// recognize finds out who it is.
func (v *visit) recognize(x *exchange.Exchange) *exchange.Problem {
	s := v.server
	f := s.find(x)
	if x.Carried != "" && f.user != x.CarriedUser {
		// The login is not yet known where the message came from.
		return &exchange.Problem{Status: 409, Code: "login_under_way", Err: ErrUnderWay}
	}
	v.mu.Lock()
	v.conn = f
	v.give = f.old
	v.who.Connection, v.who.User = f.id, f.user
	v.mu.Unlock()
	if s.opts.UserHeader != "" || s.opts.UserCookie != "" {
		if p := v.believe(x); p != nil {
			return p
		}
	}
	if v.policy == nil {
		return nil
	}
	page, p := v.policy.pages.named(x)
	if p != nil {
		return p
	}
	if page != "" && v.owns(page) {
		v.mu.Lock()
		v.who.Page = page
		v.mu.Unlock()
		if !x.Message {
			s.opts.Met(page)
		}
	}
	return nil
}

// owns says whether the page is this connection's.
func (v *visit) owns(page string) bool {
	if v.conn.id == "" {
		return false
	}
	owner, ok := v.server.opts.Owner(page)
	return ok && owner == v.conn.id
}

// believe takes the user that a trusted proxy names. From others such a field is taken off,
// lest the application believes it.
func (v *visit) believe(x *exchange.Exchange) *exchange.Problem {
	o := &v.server.opts
	if !x.Proxied {
		if o.UserHeader != "" {
			x.Fields = slices.DeleteFunc(x.Fields, func(f exchange.Field) bool { return f.Is(o.UserHeader) })
		}
		return nil
	}
	name, said := v.server.named(x)
	if !said {
		return nil
	}
	if name != "" && !isUser(name) {
		return &exchange.Problem{Status: 400, Code: "bad_user", Err: ErrUser}
	}
	err := v.become(name)
	v.server.registry.changes.tellAll()
	if err != nil {
		return &exchange.Problem{Status: 503, Code: "stopping", Err: err}
	}
	return nil
}

// named is the user that the proxy names; said is false when it names nobody, which is
// another thing than an empty name.
func (s *Server) named(x *exchange.Exchange) (name string, said bool) {
	o := &s.opts
	if o.UserHeader != "" {
		value := x.Field(o.UserHeader)
		return string(value), value != nil
	}
	if o.UserCookie == "" {
		return "", false
	}
	for value := range cookies(x, o.UserCookie) {
		return string(value), true
	}
	return "", false
}

// become makes the connection, if there is one, that of a user.
func (v *visit) become(name string) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case name == "":
		err = v.logoutLocked()
	case v.conn.id != "" && v.conn.user != name:
		_, err = v.loginLocked(name, "")
	}
	v.who.User = name
	return err
}

var (
	nameExchange   = []byte("Guado-Exchange")
	nameConnection = []byte("Guado-Connection")
	nameUser       = []byte("Guado-User")
	namePage       = []byte("Guado-Page")
	nameMessage    = []byte("Guado-Message")
)

// tell adds the fields by which the application knows it.
func (v *visit) tell(x *exchange.Exchange) {
	n := len(v.fields)
	v.fields = strconv.AppendUint(v.fields, v.who.Key, 10)
	x.Fields = append(x.Fields, exchange.Field{Name: nameExchange, Value: v.fields[n:len(v.fields):len(v.fields)]})
	v.add(x, nameConnection, v.who.Connection)
	v.add(x, nameUser, v.who.User)
	v.add(x, namePage, v.who.Page)
	if x.Message && x.Field("guado-message") == nil {
		v.add(x, nameMessage, "1")
	}
}

// add adds a field that has a value.
func (v *visit) add(x *exchange.Exchange, name []byte, value string) {
	if value == "" {
		return
	}
	n := len(v.fields)
	v.fields = append(v.fields, value...)
	x.Fields = append(x.Fields, exchange.Field{Name: name, Value: v.fields[n:len(v.fields):len(v.fields)]})
}
