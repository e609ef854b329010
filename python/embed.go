// Package python carries the worker's code inside the binary: the Python package
// guado, the sources of its C extension, and the extension itself where it was
// built before the binary.
// Before it: the build. After it: internal/runtime, which unpacks it.
// Not here: any Go code.
package python

import "embed"

// Files holds the folder guado and build_ext.py. What a build or Python left among
// them is here too; internal/runtime passes over it.
//
//go:embed all:guado build_ext.py
var Files embed.FS
