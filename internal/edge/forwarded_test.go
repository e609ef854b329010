package edge

import (
	"net/netip"
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// forwardedCases are lists with what they lead to; 10.0.0.0/8 is trusted.
var forwardedCases = map[string]struct {
	policy  ForwardedPolicy
	dropped bool
	fields  []exchange.Field
	client  string
	scheme  string
	host    string
}{
	"one hop":      {fields: []exchange.Field{field("X-Forwarded-For", "203.0.113.1")}, client: "203.0.113.1:0"},
	"spoofed left": {fields: []exchange.Field{field("X-Forwarded-For", "1.2.3.4, 203.0.113.1")}, client: "203.0.113.1:0"},
	"our proxies are passed": {
		fields: []exchange.Field{field("X-Forwarded-For", "1.2.3.4, 203.0.113.1, 10.0.0.9, 10.0.0.8")}, client: "203.0.113.1:0"},
	"several lines are one list": {
		fields: []exchange.Field{field("X-Forwarded-For", "1.2.3.4"), field("X-Other", "x"), field("X-Forwarded-For", "203.0.113.1"), field("X-Forwarded-For", "10.0.0.9")},
		client: "203.0.113.1:0"},
	"only proxies: the leftmost of them": {fields: []exchange.Field{field("X-Forwarded-For", "10.0.0.7, 10.0.0.8")}, client: "10.0.0.7:0"},
	"garbage ends the walk":              {fields: []exchange.Field{field("X-Forwarded-For", "203.0.113.1, unknown, 10.0.0.8")}, client: "10.0.0.8:0"},
	"garbage alone":                      {fields: []exchange.Field{field("X-Forwarded-For", "evil")}, client: "10.0.0.1:99"},
	"ports and brackets":                 {fields: []exchange.Field{field("X-Forwarded-For", "203.0.113.1:4711")}, client: "203.0.113.1:4711"},
	"IPv6":                               {fields: []exchange.Field{field("X-Forwarded-For", "[2001:db8::1]:80")}, client: "[2001:db8::1]:80"},
	"IPv6 bare":                          {fields: []exchange.Field{field("X-Forwarded-For", "2001:db8::1")}, client: "[2001:db8::1]:0"},
	"IPv6 in brackets":                   {fields: []exchange.Field{field("X-Forwarded-For", "[2001:db8::1]")}, client: "[2001:db8::1]:0"},
	"IPv4 in IPv6":                       {fields: []exchange.Field{field("X-Forwarded-For", "::ffff:203.0.113.1")}, client: "203.0.113.1:0"},
	"scheme of the same hop": {
		fields: []exchange.Field{field("X-Forwarded-For", "203.0.113.1, 10.0.0.9"), field("X-Forwarded-Proto", "gopher, https, http")},
		client: "203.0.113.1:0", scheme: "https"},
	"scheme overwritten by the last proxy": {
		fields: []exchange.Field{field("X-Forwarded-For", "203.0.113.1, 10.0.0.9"), field("X-Forwarded-Proto", "https")},
		client: "203.0.113.1:0", scheme: "https"},
	"scheme spoofed on the left": {
		fields: []exchange.Field{field("X-Forwarded-For", "203.0.113.1"), field("X-Forwarded-Proto", "https, http")},
		client: "203.0.113.1:0", scheme: "http"},
	"scheme alone":          {fields: []exchange.Field{field("X-Forwarded-Proto", "HTTPS")}, scheme: "https", client: "10.0.0.1:99"},
	"scheme that is none":   {fields: []exchange.Field{field("X-Forwarded-Proto", "javascript")}, client: "10.0.0.1:99"},
	"host":                  {fields: []exchange.Field{field("X-Forwarded-Host", "shop.test")}, host: "shop.test", client: "10.0.0.1:99"},
	"host that is none":     {fields: []exchange.Field{field("X-Forwarded-Host", "shop.test/evil")}, client: "10.0.0.1:99"},
	"port of the scheme":    {fields: []exchange.Field{field("X-Forwarded-Proto", "https"), field("X-Forwarded-Port", "443")}, scheme: "https", client: "10.0.0.1:99"},
	"port of its own":       {fields: []exchange.Field{field("X-Forwarded-Port", "8080")}, host: "a.test:8080", client: "10.0.0.1:99"},
	"port beside a port":    {fields: []exchange.Field{field("X-Forwarded-Host", "a.test:1"), field("X-Forwarded-Port", "8080")}, host: "a.test:1", client: "10.0.0.1:99"},
	"port beside IPv6":      {fields: []exchange.Field{field("X-Forwarded-Host", "[::1]"), field("X-Forwarded-Port", "8080")}, host: "[::1]:8080", client: "10.0.0.1:99"},
	"port that is none":     {fields: []exchange.Field{field("X-Forwarded-Port", "99999")}, client: "10.0.0.1:99"},
	"X-Real-IP":             {fields: []exchange.Field{field("X-Real-IP", "203.0.113.1")}, client: "203.0.113.1:0"},
	"X-Real-IP comes last":  {fields: []exchange.Field{field("X-Real-IP", "1.2.3.4"), field("X-Forwarded-For", "203.0.113.1")}, client: "203.0.113.1:0"},
	"Forwarded":             {fields: []exchange.Field{field("Forwarded", `for=203.0.113.1;proto=https;host="shop.test:8443"`)}, client: "203.0.113.1:0", scheme: "https", host: "shop.test:8443"},
	"Forwarded, many hops":  {fields: []exchange.Field{field("Forwarded", `for=1.2.3.4;proto=gopher, For="[2001:db8::1]:47";Proto=https`), field("forwarded", "for=10.0.0.9;proto=http")}, client: "[2001:db8::1]:47", scheme: "https"},
	"Forwarded, hidden":     {fields: []exchange.Field{field("Forwarded", `for=203.0.113.1, for=_hidden;proto=https`)}, client: "10.0.0.1:99", scheme: "https"},
	"Forwarded, malformed":  {fields: []exchange.Field{field("Forwarded", `for=203.0.113.1, nonsense`)}, client: "10.0.0.1:99"},
	"Forwarded, open quote": {fields: []exchange.Field{field("Forwarded", `for="203.0.113.1`)}, client: "10.0.0.1:99"},
	"Forwarded is not mixed in": {
		fields: []exchange.Field{field("Forwarded", "for=1.2.3.4;host=evil.test"), field("X-Forwarded-For", "203.0.113.1")}, client: "203.0.113.1:0"},
	"Forwarded by policy": {policy: ForwardedRFC,
		fields: []exchange.Field{field("Forwarded", "for=203.0.113.1"), field("X-Forwarded-For", "1.2.3.4"), field("X-Forwarded-Host", "evil.test")}, client: "203.0.113.1:0"},
	"nothing by policy": {policy: ForwardedOff, fields: []exchange.Field{
		field("Forwarded", "for=1.2.3.4;proto=https"), field("X-Forwarded-For", "1.2.3.4"), field("X-Forwarded-Proto", "https"), field("X-Real-IP", "1.2.3.4"),
	}, client: "10.0.0.1:99", dropped: true},
	"X-Forwarded by policy": {policy: ForwardedX, fields: []exchange.Field{field("Forwarded", "for=1.2.3.4")}, client: "10.0.0.1:99"},
}

// TestForwardedFieldsAreReadFromTheRight holds what a client can make up (the left)
// against what proxies have seen (the right).
func TestForwardedFieldsAreReadFromTheRight(t *testing.T) {
	for name, c := range forwardedCases {
		t.Run(name, func(t *testing.T) {
			o := &Options{Forwarded: c.policy}
			trust("10.0.0.0/8")(o)
			p, err := newPreparer(o)
			if err != nil {
				t.Fatal(err)
			}
			conn := &lane.Conn{Peer: netip.MustParseAddrPort("10.0.0.1:99")}
			conn.Trusted = p.trusts(conn)
			x := exchange.New()
			x.Method, x.Version, x.Target = "GET", exchange.HTTP11, []byte("/")
			x.Fields = append([]exchange.Field{field("Host", "a.test")}, c.fields...)
			if problem, _ := p.prepare(x, conn); problem != nil {
				t.Fatal(problem)
			}
			if c.scheme == "" {
				c.scheme = "http"
			}
			if c.host == "" {
				c.host = "a.test"
			}
			if x.Client.String() != c.client || x.Scheme != c.scheme || string(x.Host) != c.host {
				t.Errorf("client %s, scheme %s, host %s; want %s, %s, %s", x.Client, x.Scheme, x.Host, c.client, c.scheme, c.host)
			}
			if c.dropped && len(x.Fields) > 0 {
				t.Errorf("passed on: %q", x.Fields)
			}
			if x.Peer.String() != "10.0.0.1" {
				t.Errorf("peer %s", x.Peer)
			}
		})
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("for=203.0.113.1;proto=https;host=\"a\", for=\"[::1]:80\"", "1.2.3.4, [::1]:9", "a.test")
	f.Fuzz(func(t *testing.T, rfc, list, host string) {
		p, err := newPreparer(&Options{})
		if err != nil {
			t.Fatal(err)
		}
		x := exchange.New()
		x.Fields = []exchange.Field{field("Forwarded", rfc), field("X-Forwarded-For", list), field("X-Forwarded-Host", host), field("X-Forwarded-Port", list)}
		p.applyX(x)
		p.applyRFC(x)
		if len(x.Host) > 0 && !validHost(x.Host) {
			t.Errorf("host %q", x.Host)
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a%2F..%2f", "/%00", "//a?b", "*", "/a/./b", "/..."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		x := exchange.New()
		x.Method, x.Target = "GET", []byte(target)
		if splitTarget(x) != nil {
			return
		}
		if len(x.Path) == 0 || x.Path[0] != '/' {
			t.Fatalf("path %q of %q", x.Path, target)
		}
		for _, segment := range splitSegments(string(x.Path)) {
			if segment == "." || segment == ".." {
				t.Errorf("%q decodes to %q with a dot segment", target, x.Path)
			}
		}
		for _, c := range x.Path {
			if c == 0 {
				t.Errorf("%q decodes to %q with a NUL", target, x.Path)
			}
		}
	})
}

// splitSegments is the slow and obvious way.
func splitSegments(path string) []string {
	var all []string
	segment := ""
	for _, c := range []byte(path) {
		if c == '/' || c == '\\' {
			all, segment = append(all, segment), ""
			continue
		}
		segment += string(rune(c))
	}
	return append(all, segment)
}
