//go:build !linux

package http1

import "github.com/guado-server/guado/internal/exchange"

func (c *conn) unsent() (n int, ok bool) { return 0, false }

// hungUp knows nothing here: poll(2) tells no half-closed peer apart elsewhere.
func (c *conn) hungUp() exchange.Gone { return exchange.Present }
