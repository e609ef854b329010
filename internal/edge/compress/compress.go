// Package compress compresses answers with gzip or zstd for clients that accept it.
// Before it: a lane. After it: route and the steps behind, which write to its Answer.
// Not here: precompressed files (static), request bodies.
package compress

import (
	"fmt"

	"github.com/guado-server/guado/internal/exchange"
)

// Options say what is compressed.
type Options struct {
	Codings []string // "gzip", "zstd", in order of preference; empty: compression is off
	MinSize int      // smaller answers are sent as they are; 0: 1 KiB
}

const defaultMinSize = 1 << 10

// New puts compression in front of next, or gives next itself when it is off.
//
// It is off unless asked for: answers over TLS that mix a secret with what the client
// sent leak the secret through their length when compressed (BREACH).
func New(o Options, next exchange.Handler) (exchange.Handler, error) {
	if len(o.Codings) == 0 {
		return next, nil
	}
	c := &compressor{next: next, minSize: o.MinSize}
	if c.minSize <= 0 {
		c.minSize = defaultMinSize
	}
	for _, name := range o.Codings {
		k, ok := codings[name]
		if !ok {
			return nil, fmt.Errorf("compression: %q is not one of gzip and zstd", name)
		}
		c.offered = append(c.offered, k)
	}
	return c, nil
}

type compressor struct {
	next    exchange.Handler
	offered []*coding
	minSize int
}

// Serve lends x an Answer that compresses, for as long as the steps behind work.
// Upgrades are left alone: what follows them is no HTTP.
func (c *compressor) Serve(x *exchange.Exchange) {
	if x.Upgrade != "" {
		c.next.Serve(x)
		return
	}
	a := answers.Get().(*answer)
	a.Answer, a.x, a.c = x.Answer, x, c
	x.Answer = a
	defer func() {
		x.Answer = a.Answer
		a.release()
	}()
	c.next.Serve(x)
	a.end()
}
