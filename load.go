package guado

import (
	"os"

	"github.com/guado-server/guado/internal/config"
)

// Load reads a configuration file with this process's environment over it, as
// `guado serve --config FILE` does. What it gives is complete and checked: use it
// with [NewResolved], and mount Go handlers beside what the file says.
func Load(file string) (*Config, error) {
	return config.Load(config.Options{File: file, Environ: os.Environ()})
}
