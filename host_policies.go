package guado

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/access"
	"github.com/guado-server/guado/internal/address"
	"github.com/guado-server/guado/internal/basicauth"
	"github.com/guado-server/guado/internal/canonical"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/gate"
	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/headers"
	"github.com/guado-server/guado/internal/limit"
	"github.com/guado-server/guado/internal/ratelimit"
	"github.com/guado-server/guado/internal/sendfile"
	"github.com/guado-server/guado/internal/static"
)

// front puts in front of all mounts what the server's policy asks for. A request meets
// redirects first, then the rate limit, then the gate, which stays the same one when the
// configuration changes: apply puts the mounts behind it.
func (h *host) front(mounts exchange.Handler) (first exchange.Handler, apply func(), err error) {
	s := &h.config.Server
	pass, err := addresses(s.Maintenance.Allow)
	if err != nil {
		return nil, nil, err
	}
	o := gate.Options{
		Maintenance: s.Maintenance.Enabled, Flag: s.Maintenance.Flag, Page: s.Maintenance.Page,
		RetryAfter: int(s.Maintenance.RetryAfter.Std() / time.Second), Allow: pass, Except: s.Maintenance.Except,
		Hold: gate.Hold{Requests: s.Pause.Requests, Wait: s.Pause.Wait.Std()}, Log: h.log,
	}
	mounts = h.turnsBefore(mounts)
	if h.gate == nil {
		h.gate = gate.New(mounts, o)
	}
	if first, err = h.site(h.gate); err != nil {
		return nil, nil, err
	}
	requests, period := s.Rate()
	if first, err = limitRate(first, requests, period, s.RateBurst, s.RateExempt); err != nil {
		return nil, nil, err
	}
	if s.HTTPSRedirect || s.CanonicalHost != "" {
		c := canonical.Options{HTTPS: s.HTTPSRedirect, Port: s.HTTPSPort, Host: s.CanonicalHost}
		for i := range h.config.Mounts {
			if name := h.config.Mounts[i].Host; name != "" {
				c.Keep = append(c.Keep, name)
			}
		}
		first = canonical.New(first, c)
	}
	return first, func() { h.gate.Change(mounts, o) }, nil
}

// policies puts in front of a mount what its policy asks for. A request meets them from
// the last to the first: fields of the answer, address, password, rate, limits, files,
// WebSockets, identity.
func (h *host) policies(m *config.Mount, next exchange.Handler) (_ exchange.Handler, err error) {
	if next, err = h.webSockets(m, h.identify(m, h.once(m, next))); err != nil {
		return nil, err
	}
	if len(m.Sendfile) > 0 {
		files, err := sendfile.New(next, sendfile.Options{
			Folders: m.Sendfile, Log: h.log,
			Send: static.Send,
			Wrap: func(f http.Handler) exchange.Handler { return gohandler.Wrap(f, h.log) },
		})
		if err != nil {
			return nil, err
		}
		h.closers = append(h.closers, files)
		next = files
	}
	if o := h.limits(m); o != (limit.Options{}) {
		next = limit.New(next, o)
	}
	requests, period := m.Rate()
	if next, err = limitRate(next, requests, period, m.RateBurst, m.RateExempt); err != nil {
		return nil, err
	}
	if next, err = h.guard(m, next); err != nil {
		return nil, err
	}
	o := headers.Options{
		Set: fieldList(m.SetHeaders), Add: fieldList(m.AddHeaders), Remove: m.RemoveHeaders,
		SuccessOnly: m.HeadersWhen == "success",
	}
	if len(o.Set)+len(o.Add)+len(o.Remove) > 0 {
		next = headers.New(next, o)
	}
	return next, nil
}

func (h *host) limits(m *config.Mount) limit.Options {
	var o limit.Options
	// The lanes hold all requests to the largest limit of any mount.
	if own := h.config.Body(m); own != h.config.LargestBody() {
		o.Body = own
	}
	if m.RequestTimeout != nil && !h.config.Dev {
		if o.Timeout = m.RequestTimeout.Std(); o.Timeout == 0 {
			o.Timeout = -1
		}
	}
	if m.ReadIdle != nil {
		o.ReadIdle = never(*m.ReadIdle)
	}
	if m.WriteIdle != nil {
		o.WriteIdle = never(*m.WriteIdle)
	}
	return o
}

func limitRate(next exchange.Handler, requests int, period time.Duration, burst int, exempt []string) (exchange.Handler, error) {
	if requests == 0 {
		return next, nil
	}
	free, err := addresses(exempt)
	if err != nil {
		return nil, err
	}
	return ratelimit.New(next, ratelimit.Options{Requests: requests, Period: period, Burst: burst, Exempt: free}), nil
}

// guard lets in by address and password.
func (h *host) guard(m *config.Mount, next exchange.Handler) (exchange.Handler, error) {
	inside := next // what is behind all guards
	var password exchange.Handler
	if m.BasicAuth != "" {
		p, err := basicauth.New(next, basicauth.Options{File: m.BasicAuth, Realm: m.BasicAuthRealm, Strip: m.BasicAuthStrip, Log: h.log})
		if err != nil {
			return nil, err
		}
		next, password = p, p
	}
	if len(m.Allow)+len(m.Deny) == 0 {
		return next, nil
	}
	allow, err := addresses(m.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := addresses(m.Deny)
	if err != nil {
		return nil, err
	}
	o := access.Options{Allow: allow, Deny: deny}
	if m.Satisfy == "any" {
		next, o.Otherwise = inside, password
	}
	return access.New(next, o)
}

func addresses(list []string) (address.Set, error) {
	networks, unix, err := config.ParseAddresses(list)
	return address.Set{Networks: networks, Unix: unix}, err
}

func fieldList(m map[string]string) []exchange.Field {
	fields := make([]exchange.Field, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fields = append(fields, exchange.Field{Name: []byte(name), Value: []byte(m[name])})
	}
	return fields
}
