//go:build !linux

package http1

import "github.com/guado-server/guado/internal/exchange"

func (a *answer) sendFile(f exchange.File, offset, count int64) error {
	return a.copyFile(f, offset, count)
}
