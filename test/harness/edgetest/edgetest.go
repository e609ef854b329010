// Package edgetest puts a real edge before a handler, for tests of the steps of the road.
// Before it: the test's client. Behind it: what the test is about.
// Not here: a whole host; package harness starts those.
package edgetest

import (
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/guado-server/guado/internal/edge"
)

// Serve serves on a loopback address, which it gives, until the test ends; then it
// calls after, where there is such, and fails the test for what any of them says.
// Without a log nothing is logged.
func Serve(tb testing.TB, o edge.Options, after ...func() error) (address string) {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	o.Listeners = []net.Listener{l}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	server, err := edge.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	tb.Cleanup(func() {
		err := errors.Join(server.Close(), <-served)
		for _, f := range after {
			err = errors.Join(err, f())
		}
		if err != nil {
			tb.Error(err)
		}
	})
	return l.Addr().String()
}
