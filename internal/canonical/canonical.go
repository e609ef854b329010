// Package canonical sends clients to the one address of the server: https instead of
// http, and its own host name instead of others.
// Before it: edge. After it: route.
// Not here: redirects of single paths (redirect); which hosts are answered at all (edge).
package canonical

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of the server.
type Options struct {
	HTTPS bool // send http to https
	Port  int  // of https
	// Host is the name to which others are sent: "www.example.org"; empty: none.
	Host string
	// Keep are names that are not sent to Host: "shop.example.org", "*.example.org".
	Keep []string
}

// Handler is the step.
type Handler struct {
	next exchange.Handler
	opts Options
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) *Handler {
	o.Host = strings.ToLower(o.Host)
	return &Handler{next, o}
}

// challenges is where a certificate authority looks for the proof that a host name is
// ours: over plain HTTP, under the name that it was asked for.
var challenges = []byte("/.well-known/acme-challenge/")

// Serve lets x pass, or redirects it with 308: method and body stay.
func (h *Handler) Serve(x *exchange.Exchange) {
	toHTTPS := h.opts.HTTPS && x.Scheme == "http"
	toHost := h.opts.Host != "" && !h.isOwn(x.Host)
	if !toHTTPS && !toHost || bytes.HasPrefix(x.Path, challenges) {
		h.next.Serve(x)
		return
	}
	if len(x.Host) == 0 && !toHost {
		x.Fail(&exchange.Problem{Status: 400, Code: "host_missing"})
		return
	}
	head := exchange.Head{Status: 308, Fields: []exchange.Field{{Name: []byte("Location"), Value: h.location(x, toHTTPS, toHost)}}}
	if err := x.Answer.Head(head); err != nil {
		x.Answer.Abort(err)
	}
}

// location is the same target elsewhere, with the bytes that the client sent.
func (h *Handler) location(x *exchange.Exchange, toHTTPS, toHost bool) []byte {
	name, port := split(x.Host)
	scheme := x.Scheme
	if toHost {
		name = []byte(h.opts.Host)
	}
	if toHTTPS {
		scheme, port = "https", nil
		if h.opts.Port != 443 {
			port = strconv.AppendInt(nil, int64(h.opts.Port), 10)
		}
	}
	location := append([]byte(scheme), "://"...)
	location = append(location, name...)
	if len(port) > 0 {
		location = append(append(location, ':'), port...)
	}
	location = append(location, x.RawPath...)
	if len(x.Query) > 0 {
		location = append(append(location, '?'), x.Query...)
	}
	return location
}

// isOwn reports whether a name is the server's, or one of those that are kept. A request
// without a name (HTTP/1.0) is nobody else's.
func (h *Handler) isOwn(host []byte) bool {
	// Nearly all come under the one name, written as it is here.
	if n := len(h.opts.Host); len(host) >= n && string(host[:n]) == h.opts.Host && (len(host) == n || host[n] == ':') {
		return true
	}
	name, _ := split(host)
	if len(name) == 0 || exchange.EqualFold(name, h.opts.Host) {
		return true
	}
	for _, keep := range h.opts.Keep {
		if suffix, wild := strings.CutPrefix(keep, "*"); wild {
			if n := len(name) - len(suffix); n > 0 && exchange.EqualFold(name[n:], suffix) {
				return true
			}
		} else if exchange.EqualFold(name, keep) {
			return true
		}
	}
	return false
}

// split takes a host apart that the edge has found well-formed. The dot of the root is
// not part of the name.
func split(host []byte) (name, port []byte) {
	name = host
	if i := bytes.LastIndexByte(host, ':'); i > bytes.LastIndexByte(host, ']') {
		name, port = host[:i], host[i+1:]
	}
	return bytes.TrimSuffix(name, []byte(".")), port
}
