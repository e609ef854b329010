// Package lane is what the edge and its two lanes (http1, http2) agree on: what is
// known of an accepted connection, the limits, and the hooks by which a lane hands
// a request over and reports how it ended.
// Before it: the listener. After it: the lane, then route.
// Not here: any parsing.
package lane

import (
	"net/netip"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// Conn is what the listener knows of an accepted connection.
type Conn struct {
	Peer      netip.AddrPort // after the PROXY protocol; invalid on a Unix socket
	LocalName string         // host of the listener's address, or the socket's path
	LocalPort uint16
	Unix      bool
	TLS       *exchange.TLS // nil: plain
	Trusted   bool          // a listed proxy: its forwarded fields are believed
	NoTLS     bool          // plain HTTP on a TLS listener: for its refusal only
}

// Limits of one connection and its requests. Zero means the default of
// [DefaultLimits]; timeouts are of progress: each byte that moves restarts them.
type Limits struct {
	HeadBytes     int           // request line and fields together
	TargetBytes   int           // request target
	Fields        int           // number of header fields
	TrailerBytes  int           // trailer section
	BodyBytes     int64         // request body; 0: no limit
	HeadTimeout   time.Duration // from the first byte of a head to its end (total, not progress)
	KeepAlive     time.Duration // idle between requests
	ReadIdle      time.Duration // request body without progress while it is being read
	WriteIdle     time.Duration // answer without progress
	RequestsPerKA int           // requests on one connection; 0: no limit
}

// DefaultLimits are the limits of a server that was told nothing.
func DefaultLimits() Limits {
	return Limits{
		HeadBytes: 32 << 10, TargetBytes: 8 << 10, Fields: 100, TrailerBytes: 8 << 10,
		BodyBytes:   1 << 30,
		HeadTimeout: 10 * time.Second, KeepAlive: 75 * time.Second,
		ReadIdle: time.Minute, WriteIdle: time.Minute,
	}
}

// Outcome is how an exchange ended; the edge adds when.
type Outcome = exchange.Outcome

// Hooks connect a lane to the edge.
type Hooks struct {
	// Prepare checks and cleans what the lane has parsed (field hygiene, Host, path
	// decoding, forwarded fields, ids) and fills the rest of x.Request.
	//
	// The lane has set Method, Version, Target, Fields (all of them, in order, also
	// Host and the hop-by-hop ones), Length, Body, Expect, TrailersOK, Upgrade and
	// Received, and Host only when it comes from elsewhere than the Host field
	// (:authority, absolute-form target). RawPath and Query may be left unset when
	// Target is a path: Prepare splits it. Field bytes may be changed in place.
	//
	// A non-nil Problem is answered instead of calling Handler; Close says that the
	// connection must not be used again.
	Prepare func(x *exchange.Exchange, c *Conn) (p *exchange.Problem, closeAfter bool)
	Handler exchange.Handler
	// Render makes the error page of p.
	Render func(x *exchange.Exchange, p *exchange.Problem) (exchange.Head, []byte)
	// Done is called once for each exchange, also for requests refused in the lane.
	Done func(x *exchange.Exchange, o Outcome)
}
