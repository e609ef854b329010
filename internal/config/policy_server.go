package config

import (
	"strings"
	"time"
)

// ServerPolicy is what stands in front of all mounts.
type ServerPolicy struct {
	HTTPSRedirect bool   `toml:"https_redirect" default:"false" doc:"Send requests over http to https (308), but for /.well-known/acme-challenge/."`
	HTTPSPort     int    `toml:"https_port" default:"443" min:"1" doc:"Port of https as clients see it, for https_redirect."`
	CanonicalHost string `toml:"canonical_host" doc:"The one name of the server: requests for other hosts are sent there (308), but for those that a mount names and for /.well-known/acme-challenge/. Empty: any host is answered as it is."`

	RateLimit  string   `toml:"rate_limit" doc:"Requests of one address, over all mounts, written as a mount's rate_limit. Empty: no limit."`
	RateBurst  int      `toml:"rate_burst" default:"0" min:"0" doc:"Requests that may come at once. 0: the number of rate_limit."`
	RateExempt []string `toml:"rate_exempt" doc:"Who is not limited, written as a mount's allow."`

	Maintenance Maintenance `toml:"maintenance" doc:"Answers all requests with 503 while it is on: by enabled, while the flag file is there, or by the admin interface."`
	Pause       Pause       `toml:"pause" doc:"What a pause keeps waiting while, for example, a migration runs; over it requests get 503."`
}

// Maintenance is how the server answers while it is closed.
type Maintenance struct {
	Enabled    bool     `toml:"enabled" default:"false" doc:"On from the start."`
	Flag       string   `toml:"flag" path:"file" doc:"On while this file is there; looked for at most once a second. Empty: no file."`
	Page       string   `toml:"page" path:"file" doc:"HTML that browsers are shown. Empty: a page of our own."`
	RetryAfter Duration `toml:"retry_after" default:"5m" min:"0" doc:"When clients should come back. 0: not said."`
	Allow      []string `toml:"allow" doc:"Who passes: addresses, networks, \"unix\"."`
	Except     []string `toml:"except" doc:"Path prefixes that stay open, during a pause, too: [\"/static\"]."`
}

// Pause bounds what is held.
type Pause struct {
	Requests int      `toml:"requests" default:"1000" min:"1" doc:"Requests held at once."`
	Wait     Duration `toml:"wait" default:"60s" min:"1ms" doc:"How long a request is held."`
}

// Rate takes rate_limit apart, after Resolve; 0 requests: no limit.
func (s *ServerPolicy) Rate() (requests int, period time.Duration) {
	requests, period, _ = parseRate(s.RateLimit) // checked by Resolve
	return requests, period
}

func (r *resolver) checkServerPolicy() {
	s := &r.Server.ServerPolicy
	if s.HTTPSPort > 65535 {
		r.wrong("server.https_port", "server.https_port", s.HTTPSPort, "must be at most 65535")
	}
	if !s.HTTPSRedirect && s.HTTPSPort != 443 {
		r.wrong("server.https_port", "server.https_port", s.HTTPSPort, "means nothing without https_redirect")
	}
	if s.HTTPSRedirect && !r.Server.TLS.Enabled() && len(r.Server.TrustedProxies) == 0 {
		r.wrong("server.https_redirect", "server.https_redirect", true,
			"no request could ever come over https: name a certificate in [server.tls], or the proxy that ends TLS in trusted_proxies")
	}
	if host := strings.ToLower(s.CanonicalHost); host != "" && (strings.HasPrefix(host, "*") || !hostForm.MatchString(host)) {
		r.wrong("server.canonical_host", "server.canonical_host", s.CanonicalHost, "must be a host name without scheme or port, as \"www.example.org\"")
	}
	r.checkOrigins("server.websocket.origins", "server.websocket.origins", r.Server.WebSocket.Origins)
	r.checkRate("server", s.RateLimit, s.RateBurst, s.RateExempt)
	r.checkAddresses("server.maintenance.allow", s.Maintenance.Allow)
	if s.Maintenance.Page != "" {
		r.checkPath("server.maintenance.page", "server.maintenance.page", s.Maintenance.Page, false)
	}
	for _, prefix := range s.Maintenance.Except {
		if !isPlainPath(prefix) {
			r.wrong("server.maintenance.except", "server.maintenance.except", prefix, "must be a plain path prefix that starts with \"/\", as \"/static\"")
		}
	}
}
