// Package upstream passes a mount on to an HTTP server over TCP or a Unix socket,
// protocol upgrades (WebSocket) included.
// Before it: route, through the net/http adapter. After it: another server.
// Not here: balancing over several upstreams, retries.
package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one upstream mount.
type Options struct {
	Address  string        // "http://127.0.0.1:9000", "https://…", "unix:/run/app.sock"
	Timeout  time.Duration // until the upstream's response head; 0: no limit
	Dial     time.Duration // connect; default 5 s
	KeepHost bool          // send the client's Host on (default true through New's caller)
	Log      *slog.Logger
	// Exchange finds the exchange of a request; the net/http adapter provides it.
	Exchange func(*http.Request) *exchange.Exchange
}

// Handler is a reverse proxy to one address.
type Handler struct {
	proxy     *httputil.ReverseProxy
	transport *http.Transport
}

// New checks the address; it does not connect.
func New(o Options) (*Handler, error) {
	target, dial, err := parse(o)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext: dial, MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTime(target),
		ResponseHeaderTimeout: o.Timeout,
		DisableCompression:    true, // the body passes as it is
	}
	h := &Handler{transport: transport}
	h.proxy = &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // streams and events pass at once
		Rewrite:       func(r *httputil.ProxyRequest) { rewrite(r, target, o) },
		ModifyResponse: func(res *http.Response) error {
			x := o.Exchange(res.Request)
			ownRedirect(res.Header, x, target)
			if res.StatusCode == http.StatusSwitchingProtocols {
				switched(res.Header, x)
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) { fail(o.Exchange(r), o.Address, err) },
		ErrorLog:     slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	return h, nil
}

// idleTime is how long an unused connection is kept. A server that closes one in the very
// moment in which we send a POST on it would have us answer 502: ours must be the first to
// close. gunicorn keeps connections for two seconds, uvicorn and Node for five. Where each
// connection is a TLS handshake away, nginx's minute is the shortest that is met.
func idleTime(target *url.URL) time.Duration {
	if target.Scheme == "https" {
		return 50 * time.Second
	}
	return 1500 * time.Millisecond
}

func parse(o Options) (*url.URL, func(context.Context, string, string) (net.Conn, error), error) {
	connect := o.Dial
	if connect == 0 {
		connect = 5 * time.Second
	}
	dialer := &net.Dialer{Timeout: connect}
	if socket, ok := strings.CutPrefix(o.Address, "unix:"); ok {
		if socket == "" {
			return nil, nil, fmt.Errorf("upstream %q: the path of a socket must follow the scheme", o.Address)
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}, nil
	}
	u, err := url.Parse(o.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("upstream %q: %w", o.Address, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, nil, fmt.Errorf("upstream %q: must be http://HOST:PORT, https://HOST:PORT or unix:PATH", o.Address)
	}
	return u, dialer.DialContext, nil
}

// address is where the request goes below target. Path and query are the bytes that the
// client sent: net/http would write some of a path anew and leave out what it cannot
// read of a query, so that the upstream would answer another question than was asked.
func address(x *exchange.Exchange, target *url.URL) *url.URL {
	u := &url.URL{Scheme: target.Scheme, Host: target.Host, RawQuery: string(x.Query)}
	u.ForceQuery = bytes.IndexByte(x.Target, '?') >= 0
	raw := strings.TrimSuffix(target.EscapedPath(), "/") + string(x.RawPathInfo())
	switch {
	case raw == "":
		u.Path = "/"
	case !strings.HasPrefix(raw, "//"):
		u.Opaque = raw
	default:
		// Opaque would be read as the name of a host. RawPath is written as it is when
		// it has no byte that only browsers and net/http disagree on.
		u.RawPath = unescaped.Replace(raw)
		u.Path = strings.TrimSuffix(target.Path, "/") + string(x.PathInfo())
	}
	return u
}

// unescaped are the bytes that a path should have escaped and that browsers do not.
var unescaped = strings.NewReplacer(`"`, "%22", "<", "%3C", ">", "%3E", `\`, "%5C", "^", "%5E", "`", "%60",
	"{", "%7B", "|", "%7C", "}", "%7D")

// rewrite says to the upstream who the client is. What the client itself claimed in
// these fields was dropped by the edge unless it came from a trusted proxy.
func rewrite(r *httputil.ProxyRequest, target *url.URL, o Options) {
	x := o.Exchange(r.In)
	r.Out.URL, r.Out.Host = address(x, target), ""
	if o.KeepHost {
		r.Out.Host = r.In.Host
	}
	r.Out.Header.Del("Forwarded")
	r.Out.Header.Set("X-Forwarded-Proto", x.Scheme)
	r.Out.Header.Set("X-Forwarded-Host", r.In.Host)
	r.Out.Header.Set("X-Forwarded-Port", portOf(r.In.Host, x.Scheme))
	r.Out.Header.Del("X-Real-Ip")
	if x.Client.IsValid() {
		client := x.Client.Addr().String()
		r.Out.Header.Set("X-Forwarded-For", client)
		r.Out.Header.Set("X-Real-Ip", client)
	}
	if len(x.Root) > 0 {
		r.Out.Header.Set("X-Forwarded-Prefix", string(x.Root))
	}
}

// portOf is the port that the client used.
func portOf(host, scheme string) string {
	if port := (&url.URL{Host: host}).Port(); port != "" {
		return port
	}
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// ownRedirect translates a redirect to the upstream's own address, of which the client
// knows nothing, into one of the mount.
func ownRedirect(header http.Header, x *exchange.Exchange, target *url.URL) {
	base := target.Scheme + "://" + target.Host + strings.TrimSuffix(target.EscapedPath(), "/")
	rest, own := strings.CutPrefix(header.Get("Location"), base)
	if !own || rest != "" && !strings.ContainsAny(rest[:1], "/?#") || len(x.Host) == 0 {
		return
	}
	here := url.URL{Scheme: x.Scheme, Host: string(x.Host), Path: string(x.Root)}
	header.Set("Location", here.String()+rest)
}

func fail(x *exchange.Exchange, address string, err error) {
	var timeout interface{ Timeout() bool }
	switch {
	case x.Gone() == exchange.Closed || errors.Is(err, context.Canceled) || errors.Is(err, exchange.ErrClientGone):
		x.Answer.Abort(exchange.ErrClientGone)
	case errors.Is(err, exchange.ErrBodyTooLarge):
		x.Fail(&exchange.Problem{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Err: err})
	case errors.Is(err, exchange.ErrMalformedBody):
		x.Fail(&exchange.Problem{Status: http.StatusBadRequest, Code: "malformed_body", Err: err})
	case errors.Is(err, exchange.ErrSlowClient):
		x.Fail(&exchange.Problem{Status: http.StatusRequestTimeout, Code: "slow_client", Err: err})
	case errors.As(err, &timeout) && timeout.Timeout():
		x.Fail(&exchange.Problem{Status: http.StatusGatewayTimeout, Code: "upstream_timeout",
			Err: fmt.Errorf("upstream %s: %w", address, err)})
	default:
		x.Fail(&exchange.Problem{Status: http.StatusBadGateway, Code: "upstream_unreachable",
			Err: fmt.Errorf("upstream %s: %w", address, err)})
	}
}

// ServeHTTP passes the request on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.proxy.ServeHTTP(tunnelWriter{w}, r)
}

// Close drops idle connections to the upstream.
func (h *Handler) Close() error {
	h.transport.CloseIdleConnections()
	return nil
}
