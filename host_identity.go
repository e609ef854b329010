package guado

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/observe"
)

// IdentityStatus is who is known.
type IdentityStatus = identity.Status

// pageIndex is what identity asks of the pages, and tells them. It is set before the
// server serves.
type pageIndex struct {
	owner   func(page string) (connection string, ok bool)
	live    func(connection string) bool
	changed func(identity.Change)
	met     func(page string)
}

// openIdentity begins to know clients, where the phase wants it. All configurations have it
// in common.
func (h *host) openIdentity() (err error) {
	c := h.config
	if c.Server.Phase < phasePush || h.identity != nil {
		return nil
	}
	o := identity.Options{
		Dir: c.Server.StateDir, Log: h.log, MaxConnections: c.Identity.MaxConnections,
		TTL: c.Identity.TTL.Std(), GuestTTL: c.Identity.GuestTTL.Std(),
		Cookie: identity.Cookie{Name: c.Cookie.Name, Domain: c.Cookie.Domain},
		Owner: func(page string) (string, bool) {
			if h.pageIndex.owner == nil {
				return "", false
			}
			return h.pageIndex.owner(page)
		},
		Live: func(connection string) bool { return h.pageIndex.live != nil && h.pageIndex.live(connection) },
		Changed: func(c identity.Change) {
			if h.pageIndex.changed != nil {
				h.pageIndex.changed(c)
			}
		},
		Ended: h.ended,
		Met: func(page string) {
			if h.pageIndex.met != nil {
				h.pageIndex.met(page)
			}
		},
		Clock: h.clock, Touched: h.touchedItem(),
		Unasked: func(user string) {
			if _, there := h.identity.FindUser(user); !there && h.stores != nil && !h.identity.Asked(user) {
				h.stores.forget(ownerOf(user, ""))
			}
		},
	}
	o.UserHeader, o.UserCookie = c.Identity.UserSource()
	if h.identity, err = identity.New(o); err != nil {
		return err
	}
	if err := h.signFolder(); err != nil {
		return err
	}
	if err := h.openKept(); err != nil {
		return err
	}
	h.restoreIdentity()
	h.gateEffects()
	h.calls.Handle("touch", h.callTouch)
	h.calls.Handle("login", h.callLogin)
	h.calls.Handle("logout", h.callLogout)
	return nil
}

// closeIdentity keeps what is known for the next start.
func (h *host) closeIdentity() error {
	if h.identity == nil {
		return nil
	}
	var err error
	if !h.kept.keeps() {
		err = h.identity.Save()
	}
	h.identity.Close()
	return err
}

// identify finds out who the clients of an application are.
func (h *host) identify(m *config.Mount, next exchange.Handler) exchange.Handler {
	if h.config.Server.Phase < phasePush || m.Kind() != config.MountApp {
		return next
	}
	return h.identity.Step(identity.Policy{TrustUser: m.Identity, PageFrom: h.config.Page.From}, h.acknowledges(next))
}

func (h *host) identityStatus() *IdentityStatus {
	if !h.pushes() {
		return nil
	}
	st := h.identity.Status()
	return &st
}

// identityFigures are those of the metrics; nil in phase 0.
func (h *host) identityFigures() *observe.Identity {
	st := h.identityStatus()
	if st == nil {
		return nil
	}
	return &observe.Identity{
		Guests: st.Guests, LoggedIn: st.Connections - st.Guests, Users: st.Users,
		Made: st.Made, Logins: st.Logins, Logouts: st.Logouts,
		Ended:   map[string]uint64{"idle": st.Expired, "full": st.Evicted},
		Refused: map[string]uint64{"forged": st.Forged, "stale": st.Stale},
	}
}

// exchangeKey is the number of an exchange as a worker has it: the value of a field.
type exchangeKey uint64

// UnmarshalJSON takes the number as text, too.
func (k *exchangeKey) UnmarshalJSON(text []byte) error {
	n, err := strconv.ParseUint(string(bytes.Trim(text, `"`)), 10, 64)
	*k = exchangeKey(n)
	return err
}

// whose is what is asked about an exchange.
type whose struct {
	Exchange exchangeKey `json:"exchange"`
	User     string      `json:"user"`
	Flag     string      `json:"flag"`
}

// told is who the client of an exchange is.
type told struct {
	Connection string `json:"connection"`
	User       string `json:"user"`
	Waits      bool   `json:"waits,omitempty"` // for the commit of the exchange
}

// visit finds the exchange that a call is about.
func (h *host) visit(data []byte) (*identity.Visit, whose, error) {
	var ask whose
	if err := calls.Decode(data, &ask); err != nil {
		return nil, ask, err
	}
	v := h.identity.Visit(uint64(ask.Exchange))
	if v == nil {
		return nil, ask, identityError(identity.ErrOver)
	}
	return v, ask, nil
}

func (h *host) callTouch(_ context.Context, _ calls.Caller, data []byte) (any, error) {
	v, _, err := h.visit(data)
	if err != nil {
		return nil, err
	}
	c, err := v.Touch()
	if errors.Is(err, identity.ErrUnderWay) {
		// A guest of whom nothing is kept: the request was sent before the login, and its
		// answer must not have a cookie.
		c, err = identity.Connection{ID: identity.NewID()}, nil
	}
	return told{c.ID, c.User, false}, identityError(err)
}

// callLogin logs in with the commit of the request, where there is one: what the request pushes
// behind its login waits for it, too, so that nobody else gets it who had the connection.
func (h *host) callLogin(_ context.Context, caller calls.Caller, data []byte) (any, error) {
	v, ask, err := h.visit(data)
	if err != nil {
		return nil, err
	}
	if h.stores.keeps(caller.Link) {
		c, err := v.Ask(ask.User, ask.Flag)
		return told{c.ID, c.User, true}, identityError(err)
	}
	c, err := v.Login(ask.User, ask.Flag)
	return told{c.ID, c.User, false}, identityError(err)
}

func (h *host) callLogout(_ context.Context, _ calls.Caller, data []byte) (any, error) {
	v, _, err := h.visit(data)
	if err != nil {
		return nil, err
	}
	return json.RawMessage("{}"), identityError(v.Logout())
}

// identityError is how a worker is told what it did wrong.
func identityError(err error) error {
	for _, k := range []struct {
		is     error
		status int
		code   string
	}{
		{identity.ErrOver, 404, "no_exchange"},
		{identity.ErrHeadSent, 409, "head_sent"},
		{identity.ErrUnderWay, 409, "login_under_way"},
		{identity.ErrUser, 400, "bad_user"},
		{identity.ErrFull, 503, "connections_full"},
		{identity.ErrStopping, 503, "stopping"},
	} {
		if errors.Is(err, k.is) {
			return calls.Errorf(k.status, k.code, "%v", err)
		}
	}
	return err
}
