// Package js holds the client for browsers, so that every Guado can serve the one that
// fits it.
// Before it and after it: nothing.
// Not here: who serves it; its tests (js/test).
package js

import (
	"bytes"
	_ "embed" // for the sources
)

// The sources. What guado.js imports stands before it, so that a browser asks once.
var (
	//go:embed carriers.js
	carriers []byte
	//go:embed values.js
	values []byte
	//go:embed guado.js
	guado []byte
)

// Client is an ES module, which imports nothing.
var Client = client()

func client() []byte {
	out := bytes.Join([][]byte{carriers, values}, nil)
	for line := range bytes.Lines(guado) {
		if !bytes.HasPrefix(line, []byte("import ")) {
			out = append(out, line...)
		}
	}
	return bytes.Replace(out, []byte("export { Typed };\n"), nil, 1) // it is exported where it is
}
