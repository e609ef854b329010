package websocket

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 says so
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

var (
	errStopping    = errors.New("the server is stopping")
	errNoHandshake = errors.New("a WebSocket begins with a GET of HTTP/1.1 without a body")
	errKey         = errors.New("Sec-WebSocket-Key is not 16 bytes in base64")
	errTotal       = errors.New("as many WebSockets are open as server.websocket.connections allows")
	errPerAddress  = errors.New("as many WebSockets are open from this address as server.websocket.connections_per_address allows")
)

// Policy is what a mount asks of handshakes.
type Policy struct {
	Limits
	// Origins may open sockets, beside pages of the very host that is asked: whole
	// origins ("https://example.org"), with a leading "*." for subdomains, "*" for
	// all, "null". A client that sends no Origin is no browser and let in.
	Origins []string
}

// Step checks the handshakes of a mount and lets what is behind it accept them.
type Step struct {
	server  *Server
	policy  Policy
	origins []origin
	next    exchange.Handler
}

// NewStep puts the check in front of next.
func NewStep(s *Server, next exchange.Handler, p Policy) (*Step, error) {
	step := &Step{server: s, policy: p, next: next}
	for _, text := range p.Origins {
		o, err := parseOrigin(text)
		if err != nil {
			return nil, err
		}
		step.origins = append(step.origins, o)
	}
	return step, nil
}

// Serve lets all but upgrades pass as they are.
func (t *Step) Serve(x *exchange.Exchange) {
	if x.Upgrade != "websocket" {
		t.next.Serve(x)
		return
	}
	if o := x.Field("origin"); o != nil && !t.Allows(string(o), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf(
			"a page of %q may not open this WebSocket; allow it with websocket_origins on the mount, or server.websocket.origins", o)})
		return
	}
	x.Upgrader = t
	t.next.Serve(x)
}

// Check is [exchange.Upgrader].
func (t *Step) Check(x *exchange.Exchange) *exchange.Problem {
	if x.Method != "GET" || x.Version != exchange.HTTP11 || x.Length != 0 {
		return &exchange.Problem{Status: 400, Code: "bad_websocket", Err: errNoHandshake}
	}
	if v := string(x.Field("sec-websocket-version")); v != "13" {
		return &exchange.Problem{
			Status: 426, Code: "websocket_version", Err: fmt.Errorf("version %q of WebSocket is asked for", v),
			Fields: []exchange.Field{{Name: []byte("Sec-WebSocket-Version"), Value: []byte("13")}},
		}
	}
	key, err := base64.StdEncoding.DecodeString(string(x.Field("sec-websocket-key")))
	if err != nil || len(key) != 16 {
		return &exchange.Problem{Status: 400, Code: "bad_websocket", Err: errKey}
	}
	return t.server.full(&t.policy.Limits, addressOf(x))
}

func addressOf(x *exchange.Exchange) netip.Addr {
	if x.Unix {
		return netip.Addr{}
	}
	return network(x.Client.Addr())
}

// origin is an entry of Policy.Origins.
type origin struct {
	scheme, host string // as in the entry; scheme empty: any
	sub, any     bool
}

func parseOrigin(text string) (origin, error) {
	switch text {
	case "*":
		return origin{any: true}, nil
	case "null":
		return origin{scheme: "null"}, nil
	}
	scheme, host, found := strings.Cut(text, "://")
	if !found {
		scheme, host = "", text
	}
	o := origin{scheme: strings.ToLower(scheme)}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		o.sub, host = true, rest
	}
	o.host = normalHost(o.scheme, strings.ToLower(host))
	if host == "" || strings.ContainsAny(host, "/*?# ") {
		return o, fmt.Errorf("origin %q: must be as \"https://example.org\", \"https://*.example.org\", \"*\" or \"null\"", text)
	}
	return o, nil
}

// Allows says whether a page of this origin may open a socket.
func (t *Step) Allows(text string, x *exchange.Exchange) bool {
	for _, o := range t.origins {
		if o.any || o.scheme == "null" && text == "null" {
			return true
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme == "" {
		return false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	host = normalHost(scheme, host)
	// A TLS terminator that is no trusted proxy makes our scheme look like http: the
	// page's own then decides the default port. A page without TLS never may.
	ours := x.Scheme
	if scheme == "https" {
		ours = "https"
	}
	if scheme == ours && host == normalHost(ours, strings.ToLower(string(x.Host))) {
		return true
	}
	for _, o := range t.origins {
		if o.scheme != "" && o.scheme != scheme {
			continue
		}
		want := o.host
		if o.scheme == "" {
			want = normalHost(scheme, o.host)
		}
		if host == want && !o.sub || o.sub && strings.HasSuffix(host, "."+want) {
			return true
		}
	}
	return false
}

// normalHost takes the scheme's own port off.
func normalHost(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Upgrade is [exchange.Upgrader].
func (t *Step) Upgrade(x *exchange.Exchange, fields []exchange.Field, h exchange.SocketHandler) (exchange.Socket, error) {
	lane, ok := x.Answer.(exchange.Hijacker)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	k := newSocket(t.server, &t.policy.Limits, h)
	k.addr = addressOf(x)
	var extension string
	if t.policy.Compression {
		extension, k.deflate = negotiate(x)
	}
	sum := sha1.Sum(append(append([]byte(nil), x.Field("sec-websocket-key")...), keyGUID...)) //nolint:gosec // as above
	head := append(make([]byte, 0, 512), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	head = base64.StdEncoding.AppendEncode(head, sum[:])
	head = append(head, "\r\n"...)
	if extension != "" {
		head = append(append(append(head, "Sec-WebSocket-Extensions: "...), extension...), "\r\n"...)
	}
	fields = exchange.Switched(x.Answer, slices.DeleteFunc(slices.Clone(fields), func(f exchange.Field) bool { return own(&f) }))
	for i := range fields {
		f := &fields[i]
		if own(f) {
			continue
		}
		head = append(append(append(append(head, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	head = append(head, "\r\n"...)
	if p := t.server.enter(k); p != nil {
		return nil, p
	}
	conn, early, err := lane.Hijack()
	if err != nil {
		t.server.leave(k)
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	t.server.opened.Add(1)
	k.adopt(conn, early, head)
	return k, nil
}

// own are fields of the handshake that only the host writes.
func own(f *exchange.Field) bool {
	for _, name := range []string{
		"upgrade", "connection", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-version",
		"content-length", "transfer-encoding",
	} {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// network is what counts as one address.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
