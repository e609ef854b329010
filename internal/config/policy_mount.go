package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MountPolicy is what stands in front of a mount: what reverse proxies are configured
// for. A key that is not set puts nothing in the way of a request.
type MountPolicy struct {
	Allow   []string `toml:"allow" doc:"Who is let in: addresses, networks (CIDR), \"unix\" for clients without an address, \"all\". Others get 403. The most specific entry of allow and deny decides. Empty: everybody whom deny does not name."`
	Deny    []string `toml:"deny" doc:"Who is not let in, written as in allow."`
	Satisfy string   `toml:"satisfy" default:"all" enum:"all,any" doc:"With basic_auth: all asks everybody who is let in for a password, any only those whom allow and deny do not let in."`

	BasicAuth      string `toml:"basic_auth" path:"file" doc:"Ask for a name and a password of this file: htpasswd with bcrypt hashes (htpasswd -B). Read again when it changes. Empty: no password."`
	BasicAuthRealm string `toml:"basic_auth_realm" default:"Restricted" doc:"What browsers show beside the question for the password."`
	BasicAuthStrip bool   `toml:"basic_auth_strip" default:"false" doc:"Do not pass the Authorization field on to what answers."`

	RateLimit  string   `toml:"rate_limit" doc:"Requests of one address (IPv6: of one /64) in a second, minute or hour: \"10/s\", \"100/m\", \"1000/h\"; more get 429. Empty: no limit."`
	RateBurst  int      `toml:"rate_burst" default:"0" min:"0" doc:"Requests that may come at once. 0: the number of rate_limit."`
	RateExempt []string `toml:"rate_exempt" doc:"Who is not limited, written as in allow."`

	BodyLimit      *Size     `toml:"body_limit" min:"0" doc:"Request body, in place of server.limits.body; more is 413. 0: no limit."`
	RequestTimeout *Duration `toml:"request_timeout" min:"0" doc:"As server.request_timeout, for this mount (apps only). Not set: the app's. 0: none."`
	ReadIdle       *Duration `toml:"read_idle" min:"0" doc:"Request body without progress, in place of server.timeouts.read_idle. 0: no limit."`
	WriteIdle      *Duration `toml:"write_idle" min:"0" doc:"Answer without progress, in place of server.timeouts.write_idle. 0: no limit."`

	WebSocketOrigins []string `toml:"websocket_origins" doc:"Whose pages may open WebSockets here, in place of server.websocket.origins."`

	Identity bool `toml:"identity" default:"false" doc:"From phase 3 on: a field Guado-User in an answer of the app logs its client in under that name (empty: out). Apps only."`

	Idempotency         bool `toml:"idempotency" default:"false" doc:"A request with a field Idempotency-Key that comes again gets the answer of the first one, and is not done again; see [idempotency]. Apps only."`
	IdempotencyRequired bool `toml:"idempotency_required" default:"false" doc:"Refuse requests that change something (not GET, HEAD, OPTIONS, TRACE) and have no Idempotency-Key: 400."`

	SetHeaders    map[string]string `toml:"set_headers" doc:"Fields of answers, in place of those of the same name that the answer has."`
	AddHeaders    map[string]string `toml:"add_headers" doc:"Fields of answers, beside those of the same name."`
	RemoveHeaders []string          `toml:"remove_headers" doc:"Fields that are taken off answers."`
	HeadersWhen   string            `toml:"headers_when" default:"always" enum:"always,success" doc:"Which answers the three keys above change: always is all, the host's own error pages included; success is status 200, 201, 204, 206, 301 to 304, 307 and 308, as nginx does without its word always."`

	Sendfile map[string]string `toml:"sendfile" doc:"Folders whose files the application may name instead of sending them: { \"/protected\" = \"media/private\" } answers X-Accel-Redirect: /protected/a.pdf, and X-Sendfile with the path of a file in the folder. Apps, upstreams and Go handlers."`
}

// Rate takes rate_limit apart, after Resolve; 0 requests: no limit.
func (m *MountPolicy) Rate() (requests int, period time.Duration) {
	requests, period, _ = parseRate(m.RateLimit) // checked by Resolve
	return requests, period
}

func parseRate(text string) (int, time.Duration, error) {
	if text == "" {
		return 0, 0, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	period := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[strings.TrimSpace(unit)]
	if err != nil || n < 1 || period == 0 {
		return 0, 0, fmt.Errorf("must be a number of requests in a second, minute or hour, as \"10/s\", \"100/m\" or \"1000/h\"")
	}
	return n, period, nil
}

// ParseAddresses reads addresses and networks, "unix" and "all".
func ParseAddresses(list []string) (networks []netip.Prefix, unix bool, err error) {
	for _, text := range list {
		switch text {
		case "unix":
			unix = true
			continue
		case "all":
			unix = true
			networks = append(networks, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			continue
		}
		network, err := parseNetwork(text)
		if err != nil {
			return nil, false, fmt.Errorf("%q is neither an address nor a network such as \"10.0.0.0/8\", nor \"unix\" or \"all\"", text)
		}
		if network != network.Masked() {
			return nil, false, fmt.Errorf("%q has bits beyond its prefix; did you mean %q?", text, network.Masked())
		}
		networks = append(networks, network)
	}
	return networks, unix, nil
}

// Body is the limit of the mount's request bodies: its own, else the server's; 0 is none.
func (c *Config) Body(m *Mount) int64 {
	if m.BodyLimit != nil {
		return m.BodyLimit.Bytes()
	}
	return c.Server.Limits.Body.Bytes()
}

// LargestBody is the limit that holds before the mount is known: the largest of all; 0
// is none.
func (c *Config) LargestBody() int64 {
	largest := c.Server.Limits.Body.Bytes()
	for i := range c.Mounts {
		switch limit := c.Body(&c.Mounts[i]); {
		case limit == 0 || largest == 0:
			return 0
		default:
			largest = max(largest, limit)
		}
	}
	return largest
}

// folders of sendfile become absolute.
func (r *resolver) mountFolders() {
	for i := range r.Mounts {
		for prefix, dir := range r.Mounts[i].Sendfile {
			r.Mounts[i].Sendfile[prefix] = r.absolute(dir)
		}
	}
}

func (r *resolver) checkMountPolicy(m *Mount, path string) {
	p := &m.MountPolicy
	r.checkAddresses(path+".allow", p.Allow)
	r.checkAddresses(path+".deny", p.Deny)
	for _, text := range p.Allow {
		if slices.Contains(p.Deny, text) {
			r.wrong(path+".deny", path+".deny", text, "is in allow, too; remove it from one of them")
		}
	}
	if p.BasicAuth != "" {
		r.checkPath(path+".basic_auth", path+".basic_auth", p.BasicAuth, false)
		if strings.ContainsFunc(p.BasicAuthRealm, isControl) {
			r.wrong(path+".basic_auth_realm", path+".basic_auth_realm", p.BasicAuthRealm, "has a control character")
		}
	}
	for _, key := range []struct {
		name    string
		changed bool
	}{
		{"satisfy", p.Satisfy == "any"}, {"basic_auth_strip", p.BasicAuthStrip},
		{"basic_auth_realm", p.BasicAuthRealm != "Restricted" && r.Origin(path+".basic_auth_realm").Kind != FromDefault},
	} {
		if p.BasicAuth == "" && key.changed {
			r.wrong(join(path, key.name), join(path, key.name), nil, "means nothing without basic_auth")
		}
	}
	if p.Satisfy == "any" && p.BasicAuth != "" && len(p.Allow) == 0 && len(p.Deny) == 0 {
		r.wrong(path+".satisfy", path+".satisfy", p.Satisfy, "nobody would be asked for the password: name in allow or deny who is let in without one")
	}
	r.checkRate(path, p.RateLimit, p.RateBurst, p.RateExempt)
	r.checkOrigins(path+".websocket_origins", path+".websocket_origins", p.WebSocketOrigins)
	r.checkHeaders(p, path)
	if p.RequestTimeout != nil && m.Kind() != MountApp {
		r.wrong(path+".request_timeout", path+".request_timeout", p.RequestTimeout.String(), "is for app mounts only; an upstream has answer_timeout")
	}
	r.checkSendfile(m, path)
	r.checkMountIdentity(m, path)
	r.checkIdempotency(m, path)
}

func (r *resolver) checkAddresses(path string, list []string) {
	if _, _, err := ParseAddresses(list); err != nil {
		r.wrong(path, path, list, "%s", err)
	}
}

func (r *resolver) checkRate(path, rate string, burst int, exempt []string) {
	if _, _, err := parseRate(rate); err != nil {
		r.wrong(path+".rate_limit", path+".rate_limit", rate, "%s", err)
	}
	if rate == "" && burst > 0 {
		r.wrong(path+".rate_burst", path+".rate_burst", burst, "means nothing without rate_limit")
	}
	if rate == "" && len(exempt) > 0 {
		r.wrong(path+".rate_exempt", path+".rate_exempt", exempt, "means nothing without rate_limit")
	}
	r.checkAddresses(path+".rate_exempt", exempt)
}

// framedHeaders are written by the host itself.
var framedHeaders = []string{"Connection", "Content-Length", "Keep-Alive", "Transfer-Encoding", "Upgrade", "X-Accel-Redirect", "X-Sendfile"}

func (r *resolver) checkHeaders(p *MountPolicy, path string) {
	check := func(at, shown, name, value string) {
		switch {
		case !isToken(name):
			r.wrong(at, shown, name, "is not the name of a header field")
		case slices.Contains(framedHeaders, http.CanonicalHeaderKey(name)):
			r.wrong(at, shown, name, "is the host's own business and cannot be changed")
		case strings.ContainsFunc(value, isControl):
			r.wrong(at, shown, name, "its value has a control character")
		}
	}
	for key, fields := range map[string]map[string]string{"set_headers": p.SetHeaders, "add_headers": p.AddHeaders} {
		for name, value := range fields {
			check(join(path+"."+key, name), path+"."+key, name, value)
		}
	}
	for _, name := range p.RemoveHeaders {
		check(path+".remove_headers", path+".remove_headers", name, "")
	}
	if len(p.SetHeaders)+len(p.AddHeaders)+len(p.RemoveHeaders) == 0 && p.HeadersWhen == "success" {
		r.wrong(path+".headers_when", path+".headers_when", p.HeadersWhen, "means nothing without set_headers, add_headers or remove_headers")
	}
}

func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

func (r *resolver) checkSendfile(m *Mount, path string) {
	at := path + ".sendfile"
	if kind := m.Kind(); len(m.Sendfile) > 0 && (kind == MountStatic || kind == MountRedirect) {
		r.wrong(at, at, nil, "is for mounts of an app or an upstream, and this is one of %s", kind)
	}
	for prefix, dir := range m.Sendfile {
		if !isPlainPath(prefix) {
			r.wrong(at+"."+prefix, at, prefix, "must be a plain path prefix that starts with \"/\", as \"/protected\"")
		}
		if r.checkPath(at+"."+prefix, at, dir, true) && filepath.Dir(dir) == dir {
			r.wrong(at+"."+prefix, at, dir, "would let the application send every file of this machine")
		}
	}
}

// isPlainPath reports whether a prefix reads the same however often it is decoded.
func isPlainPath(p string) bool {
	segments := strings.Split(p, "/")
	return strings.HasPrefix(p, "/") && !strings.Contains(p, "//") && !strings.ContainsAny(p, "?#%*\x00") &&
		!slices.Contains(segments, "..") && !slices.Contains(segments, ".")
}
