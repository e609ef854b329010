// Package gohandler serves an exchange with an http.Handler: Go handlers of the
// library, and the static and upstream mounts.
// Before it: route. After it: the handler.
// Not here: HTTP itself; the lane reads the request and frames the answer.
package gohandler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

type exchangeKey struct{}

// Exchange gives the exchange behind r, which Wrap's handler received; nil for any
// other request. It is valid until the handler returns.
func Exchange(r *http.Request) *exchange.Exchange {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange.Exchange)
	return x
}

// Wrap makes a step of the road from h. The path that h sees has no Root.
func Wrap(h http.Handler, log *slog.Logger) exchange.Handler { return &adapter{h, log} }

type adapter struct {
	handler http.Handler
	log     *slog.Logger
}

// Serve calls the handler in this goroutine. A panic becomes 500, or cuts an
// answer that has begun; http.ErrAbortHandler cuts it without a word in the log.
func (a *adapter) Serve(x *exchange.Exchange) {
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), exchangeKey{}, x))
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		watchClient(ctx, x, cancel)
	}()
	defer func() {
		cancel(context.Canceled)
		<-watch
	}()
	w := &writer{x: x, header: http.Header{}, log: a.log}
	r, err := newRequest(ctx, x)
	if err != nil {
		x.Fail(&exchange.Problem{Status: http.StatusBadRequest, Code: "bad_target", Err: err})
		return
	}
	defer r.Body.Close() //nolint:errcheck // it has no error to give
	defer func() {
		switch p := recover(); p {
		case nil:
			w.finish()
		case http.ErrAbortHandler:
			w.abort(http.ErrAbortHandler)
		default:
			a.panicked(x, w, p)
		}
	}()
	a.handler.ServeHTTP(w, r)
}

func (a *adapter) panicked(x *exchange.Exchange, w *writer, p any) {
	stack := make([]byte, 16<<10)
	stack = stack[:runtime.Stack(stack, false)]
	a.log.Error("Go handler panicked", "request_id", x.ID, "app", x.App, "panic", fmt.Sprint(p), "stack", string(stack))
	w.fail(&exchange.Problem{Status: http.StatusInternalServerError, Code: "application_error",
		Err: fmt.Errorf("handler panicked: %v", p)})
}

// watchClient ends the request's context when the client has left. A client that
// only closed its sending half may still read the answer.
func watchClient(ctx context.Context, x *exchange.Exchange, cancel context.CancelCauseFunc) {
	for {
		if x.Gone() == exchange.Closed {
			cancel(exchange.ErrClientGone)
			return
		}
		select {
		case <-x.Bell():
		case <-ctx.Done():
			return
		}
	}
}

func newRequest(ctx context.Context, x *exchange.Exchange) (*http.Request, error) {
	target, err := targetOf(x)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: x.Method, URL: target, Proto: x.Version.String(),
		ProtoMajor: int(x.Version) / 10, ProtoMinor: int(x.Version) % 10,
		Header: headerOf(x), Body: http.NoBody, ContentLength: x.Length,
		Host: string(x.Host), RequestURI: string(x.Target), RemoteAddr: remoteOf(x),
	}
	if x.Length != 0 {
		r.Body = &body{x: x, request: r}
		r.Trailer = announced(r.Header)
	}
	if x.Length < 0 {
		r.TransferEncoding = []string{"chunked"}
	}
	if x.TLS != nil {
		r.TLS = &tls.ConnectionState{Version: x.TLS.Version, CipherSuite: x.TLS.CipherSuite,
			HandshakeComplete: true, ServerName: hostname(string(x.Host))}
	}
	return r.WithContext(ctx), nil
}

// targetOf keeps the client's escapes in RawPath when they matter. What is nothing but the root is "/": muxes
// redirect an empty path, and mostly to elsewhere.
func targetOf(x *exchange.Exchange) (*url.URL, error) {
	if x.Method == http.MethodConnect {
		return nil, errors.New("CONNECT has no path")
	}
	u := &url.URL{Path: string(x.PathInfo()), RawQuery: string(x.Query)}
	if u.Path == "" {
		u.Path = "/"
		return u, nil
	}
	if raw := string(x.RawPathInfo()); raw != u.EscapedPath() {
		u.RawPath = raw
	}
	return u, nil
}

func remoteOf(x *exchange.Exchange) string {
	if !x.Client.IsValid() {
		return "@" // what net/http gives for a client without a name on a Unix socket
	}
	return x.Client.String()
}

func hostname(hostport string) string { return (&url.URL{Host: hostport}).Hostname() }

func headerOf(x *exchange.Exchange) http.Header {
	h := make(http.Header, len(x.Fields)+6)
	// One slice backs all values: fields seldom repeat.
	values := make([]string, len(x.Fields))
	for i, f := range x.Fields {
		name := http.CanonicalHeaderKey(string(f.Name))
		if name == "Host" {
			continue
		}
		values[i] = string(f.Value)
		if there := h[name]; there != nil {
			h[name] = append(there, values[i])
		} else {
			h[name] = values[i : i+1 : i+1]
		}
	}
	if x.ID != "" {
		h.Set("X-Request-Id", x.ID)
	}
	if len(x.TraceParent) > 0 {
		h.Set("Traceparent", string(x.TraceParent))
	}
	if x.Upgrade != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", x.Upgrade)
	}
	if x.TrailersOK {
		h.Set("Te", "trailers")
	}
	if x.Length > 0 {
		h.Set("Content-Length", strconv.FormatInt(x.Length, 10))
	}
	return h
}

// announced makes the Trailer map that net/http shows before the body was read.
func announced(h http.Header) http.Header {
	var t http.Header
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" {
				if t == nil {
					t = http.Header{}
				}
				t[name] = nil
			}
		}
	}
	delete(h, "Trailer")
	return t
}
