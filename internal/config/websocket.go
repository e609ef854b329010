package config

import (
	"net/url"
	"strings"
)

// WebSocket bounds the WebSockets that end in the host: those of ASGI applications. What
// goes to an upstream or a Go handler is theirs after the handshake.
type WebSocket struct {
	Origins        []string `toml:"origins" doc:"Whose pages may open WebSockets, besides those of the very host that is asked: \"https://example.org\", \"https://*.example.org\" for subdomains, \"*\" for all, \"null\" for pages without an origin. Clients that send no Origin are no browsers and let in."`
	Compression    bool     `toml:"compression" default:"false" doc:"Offer permessage-deflate. It costs processor time, and nothing while a WebSocket idles."`
	CompressionMin Size     `toml:"compression_min" default:"128" min:"0" doc:"Shorter messages are sent as they are."`
	MessageLimit   Size     `toml:"message_limit" default:"16MiB" min:"125" doc:"Longest message of a client, unpacked; a longer one closes with 1009."`
	FragmentLimit  int      `toml:"fragment_limit" default:"100000" min:"1" doc:"Frames of one message; more close with 1008."`
	QueueLimit     Size     `toml:"queue_limit" default:"1MiB" min:"4KiB" doc:"What may wait for a client that does not read; over it the connection is cut. An application's send() waits long before that."`
	PingInterval   Duration `toml:"ping_interval" default:"20s" min:"0" doc:"After so long a silence a client is asked for a sign of life. 0: never."`
	PingTimeout    Duration `toml:"ping_timeout" default:"20s" min:"1s" doc:"How long the sign of life may take before the connection is cut."`
	Connections    int      `toml:"connections" default:"20000" min:"0" doc:"WebSockets open at once, which do not count among server.limits.connections; more get 503. 0: no limit."`
	PerAddress     int      `toml:"connections_per_address" default:"0" min:"0" doc:"WebSockets open at once from one address (IPv6: from one /64); more get 429. 0: no limit."`
}

// checkOrigins checks a list of origins.
func (r *resolver) checkOrigins(path, key string, list []string) {
	for _, text := range list {
		if text == "*" || text == "null" {
			continue
		}
		u, err := url.Parse(strings.Replace(text, "://*.", "://", 1))
		if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path+u.RawQuery+u.Fragment != "" || strings.Contains(u.Host, "*") {
			r.wrong(path, key, text, "must be as \"https://example.org\", \"https://*.example.org\", \"*\" or \"null\"")
		}
	}
}
