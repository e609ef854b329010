package identity

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
)

// visit is an exchange under way. It is used again: who comes for it from elsewhere
// compares the number under the lock.
type visit struct {
	exchange.Around // the answer of the lane, or of the step before
	server          *Server
	up              upgrade
	policy          *policy // nil: nothing is behind

	mu   sync.Mutex // guards the rest, and that the exchange is under way
	key  uint64     // 0: it is over
	x    *exchange.Exchange
	who  exchange.Who
	conn found
	sent bool // the head has left
	give bool // the answer sets the cookie
	ask  *login

	fields []byte           // memory of the fields that were added to the request
	room   []exchange.Field // and of those of the answer
}

var pool = sync.Pool{New: func() any { return &visit{} }}

// visits are the exchanges under way by their numbers.
type visits struct {
	last   atomic.Uint64
	shards [shards]shard
}

const shards = 32

type shard struct {
	mu  sync.Mutex // guards all
	all map[uint64]*visit
	_   [48]byte // others are not on the same cache line
}

func (t *visits) init() {
	for i := range t.shards {
		t.shards[i].all = map[uint64]*visit{}
	}
}

func (t *visits) add(v *visit) uint64 {
	key := t.last.Add(1)
	s := &t.shards[key%shards]
	s.mu.Lock()
	s.all[key] = v
	s.mu.Unlock()
	return key
}

func (t *visits) remove(key uint64) {
	s := &t.shards[key%shards]
	s.mu.Lock()
	delete(s.all, key)
	s.mu.Unlock()
}

func (t *visits) find(key uint64) *visit {
	s := &t.shards[key%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[key]
}

// begin puts an exchange under way.
func (s *Server) begin(x *exchange.Exchange) *visit {
	v := pool.Get().(*visit)
	v.server, v.Answer = s, x.Answer
	v.mu.Lock()
	v.x = x
	v.key = s.visits.add(v)
	v.who = exchange.Who{Key: v.key}
	v.mu.Unlock()
	return v
}

// end is the last that is done with v.
func (s *Server) end(v *visit) {
	s.visits.remove(v.who.Key)
	v.mu.Lock()
	v.key, v.x = 0, nil
	v.conn, v.sent, v.give, v.policy = found{}, false, false, nil
	unasked := v.takeLocked()
	v.who = exchange.Who{}
	v.Answer, v.up = nil, upgrade{}
	clear(v.room[:cap(v.room)]) // they point into memory of the steps behind
	v.room, v.fields = v.room[:0], v.fields[:0]
	v.mu.Unlock()
	pool.Put(v)
	if unasked != nil {
		s.opts.Unasked(unasked.user)
	}
}

// Visit is an exchange under way, seen from elsewhere: its methods may be called from any
// goroutine, and say [ErrOver] once it is answered.
type Visit struct {
	server *Server
	key    uint64
}

func (s *Server) handle(v *visit) *Visit { return &Visit{s, v.who.Key} }

// with calls f while the exchange is surely under way.
func (h *Visit) with(f func(v *visit) error) error {
	if v := h.server.visits.find(h.key); v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.key == h.key {
			return f(v)
		}
	}
	return fmt.Errorf("exchange %d: %w", h.key, ErrOver)
}

// Read calls f with the exchange, whose request it may read, while it is surely under way.
func (h *Visit) Read(f func(x *exchange.Exchange)) error {
	return h.with(func(v *visit) error {
		f(v.x)
		return nil
	})
}

// Touch gives the connection. When there is none it is made, and the answer sets its
// cookie.
func (h *Visit) Touch() (c Connection, err error) {
	err = h.with(func(v *visit) error {
		c, err = v.touchLocked()
		return err
	})
	h.server.registry.changes.tellAll() // another one may have made room
	return c, err
}

func (v *visit) touchLocked() (Connection, error) {
	if v.conn.stale {
		return Connection{}, ErrUnderWay
	}
	if v.conn.id != "" {
		if c, there, err := v.server.registry.seenBy(v.conn); there {
			if v.ask != nil {
				c.User = v.ask.user
			}
			return c, err
		}
		v.conn = found{}
	}
	return v.createLocked(v.who.User, "")
}

func (v *visit) createLocked(user, flag string) (Connection, error) {
	if v.sent {
		return Connection{}, ErrHeadSent
	}
	r := &v.server.registry
	c, err := r.create("", user, flag, item.Meta{Address: v.x.Client.Addr(), Agent: item.NewAgent(v.x.Field("user-agent"))})
	if err != nil {
		return Connection{}, err
	}
	v.conn = found{id: c.id, user: user}
	v.give = true
	out, _ := r.get(c.id)
	return out, nil
}

// Login gives the connection to a user; it makes one when there is none. The answer sets
// another cookie: that of before is no longer good.
func (h *Visit) Login(user, flag string) (c Connection, err error) {
	err = h.with(func(v *visit) error {
		v.takeLocked()
		c, err = v.loginLocked(user, flag)
		return err
	})
	h.server.registry.changes.tellAll()
	return c, err
}

// Ask has [Visit.Login] come with the commit of the exchange, see [Server.Committed], or not
// at all.
func (h *Visit) Ask(user, flag string) (c Connection, err error) {
	err = h.with(func(v *visit) error {
		c, err = v.askLocked(user, flag)
		return err
	})
	h.server.registry.changes.tellAll() // another connection may have made room
	return c, err
}

// mayLocked says why nobody of that name can be logged in.
func (v *visit) mayLocked(user, flag string) error {
	switch {
	case !isUser(user):
		return fmt.Errorf("%w, not %.300q", ErrUser, user)
	case flag != "" && !isUser(flag):
		return fmt.Errorf("%w, and so must a flag, not %.300q", ErrUser, flag)
	case v.sent:
		return ErrHeadSent
	}
	return nil
}

func (v *visit) loginLocked(user, flag string) (Connection, error) {
	if err := v.mayLocked(user, flag); err != nil {
		return Connection{}, err
	}
	r := &v.server.registry
	if v.conn.id != "" {
		before, ok, err := r.change(v.conn, v.carrier(), user, flag)
		if err != nil {
			return Connection{}, err
		}
		if ok {
			if before != user {
				v.conn.version++
				v.give = true
			}
			v.conn.user = user
			c, _ := r.get(v.conn.id)
			return c, nil
		}
	}
	// Who came with a token of before must not touch what is another's by now.
	return v.createLocked(user, flag)
}

// Logout makes a guest of the connection's user. It is done also when the answer can no
// longer set the cookie: the browser is unknown then.
func (h *Visit) Logout() error {
	err := h.with((*visit).logoutLocked)
	h.server.registry.changes.tellAll()
	return err
}

func (v *visit) logoutLocked() error {
	v.takeLocked()
	if v.conn.user == "" {
		return nil
	}
	before, ok, err := v.server.registry.change(v.conn, v.carrier(), "", "")
	if err != nil || !ok || before == "" {
		return err
	}
	v.conn.version++
	v.conn.user = ""
	v.give = !v.sent
	return nil
}

// carrier is the page whose session carries the request, if one does.
func (v *visit) carrier() string {
	if !v.x.Message || v.x.Carried == "" {
		return ""
	}
	base, _, _ := ParseID(string(v.x.GuadoPage)) // empty, if it is none
	return base
}

const longestUser = 255

// isUser says that a name can travel in a header field and be read.
func isUser(name string) bool {
	return name != "" && len(name) <= longestUser && utf8.ValidString(name) && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, unicode.IsControl)
}

// cookieLocked is the field that the answer needs; the empty one: none.
func (v *visit) cookieLocked() exchange.Field {
	if !v.give {
		return exchange.Field{}
	}
	token := v.server.keys.sign(v.conn.id, v.conn.version)
	v.server.registry.remember(v.conn.id, v.conn.version, token)
	return v.server.setCookie(v.x, token)
}
