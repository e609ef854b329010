package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// preparer makes of what a lane has parsed what every later step relies on: the same
// for both lanes.
type preparer struct {
	proxies   []netip.Prefix
	trustUnix bool
	forwarded ForwardedPolicy
	hosts     hostList
	anyHost   []string // paths
	allowed   []string // field names let through in spite of an underscore or dot
	ids       *ids
	oneIn     int         // exchanges of which one is traced; 0: none
	extra     extraFields // of error pages
	strangers *strangers
	unproxied *strangers // with the PROXY protocol
}

func newPreparer(o *Options) (*preparer, error) {
	p := &preparer{
		proxies: o.TrustedProxies, trustUnix: o.TrustUnix, forwarded: o.Forwarded, ids: newIDs(), extra: newExtraFields(o),
		strangers: &strangers{log: o.Log}, unproxied: &strangers{log: o.Log}, oneIn: o.TraceOneIn, anyHost: o.AnyHost,
	}
	for _, name := range o.AllowHeaders {
		if lower := strings.ToLower(name); len(name) > 0 && !reservedName([]byte(lower)) {
			p.allowed = append(p.allowed, lower)
			continue
		}
		return nil, fmt.Errorf("edge: allow_headers: %q cannot be let through", name)
	}
	var err error
	p.hosts, err = newHostList(o.AllowHosts)
	return p, err
}

// ParseTrusted reads a list of trusted proxies: networks ("10.0.0.0/8"), addresses,
// and "unix" for whoever connects over a Unix socket.
func ParseTrusted(list []string) (proxies []netip.Prefix, unix bool, err error) {
	for _, s := range list {
		if s == "unix" {
			unix = true
			continue
		}
		if a, err := netip.ParseAddr(s); err == nil {
			a = a.Unmap()
			proxies = append(proxies, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, false, fmt.Errorf("trusted proxy %q: neither an address nor a network like 10.0.0.0/8 nor \"unix\"", s)
		}
		if p.Masked() != p {
			return nil, false, fmt.Errorf("trusted proxy %q: bits are set beyond the prefix; did you mean %s?", s, p.Masked())
		}
		proxies = append(proxies, p)
	}
	return proxies, unix, nil
}

func (p *preparer) trusts(c *lane.Conn) bool {
	if c.Unix {
		return p.trustUnix
	}
	return p.isProxy(c.Peer.Addr())
}

func (p *preparer) isProxy(a netip.Addr) bool {
	for i := range p.proxies {
		if p.proxies[i].Contains(a) {
			return true
		}
	}
	return false
}

var errNoTLS = errors.New("plain HTTP on a listener that speaks TLS: the URL should begin with https://")

// prepare is lane.Hooks.Prepare. Requests that two parties could read in two ways are
// refused, and the connection with them: what follows could be read in two ways too.
func (p *preparer) prepare(x *exchange.Exchange, c *lane.Conn) (*exchange.Problem, bool) {
	x.Peer, x.Client, x.TLS = c.Peer.Addr(), c.Peer, c.TLS
	x.LocalName, x.LocalPort, x.Unix = c.LocalName, c.LocalPort, c.Unix
	x.Scheme = "http"
	if c.TLS != nil {
		x.Scheme = "https"
	}
	x.Scratch = x.Scratch[:0]

	seen := seen{deaf: p.forwarded == ForwardedOff}
	refused := p.cleanFields(x, c.Trusted, &seen)
	x.GuadoPage, x.GuadoAck, x.Proxied = seen.page, seen.ack, c.Trusted
	// Ids come first of the rest: a refusal is logged with its own.
	p.identify(x, &seen)
	if refused != nil {
		return refused, true
	}
	if c.NoTLS {
		return &exchange.Problem{Status: 400, Code: "tls_required", Err: errNoTLS}, true
	}
	if problem := takeHost(x, &seen); problem != nil {
		return problem, true
	}
	if problem := splitTarget(x); problem != nil {
		return problem, true
	}
	if c.Trusted {
		p.applyForwarded(x, &seen)
	} else if seen.strange != nil {
		p.strangers.claim(x, seen.strange)
	}
	if !p.hosts.allows(x.Host) && !slices.Contains(p.anyHost, string(x.Path)) {
		return &exchange.Problem{Status: 421, Code: "host_not_allowed"}, false
	}
	return nil, false
}
