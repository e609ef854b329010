package main

import (
	"runtime"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/config"
)

// shareProcessors leaves half of the processors to the workers, unless GOMAXPROCS is
// set or there are no workers. Go's idle threads look for work before they sleep, on
// processors that a worker needs at that very moment; docs/adr/0008 has the figures.
func shareProcessors(cfg *config.Config, environ []string) {
	set := slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, "GOMAXPROCS=") })
	if set || len(cfg.Groups) == 0 {
		return
	}
	runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
}
