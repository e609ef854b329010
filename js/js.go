// Package js holds the client for browsers, so that every Guado can serve the one that
// fits it.
// Before it and after it: nothing.
// Not here: who serves it; its tests (js/test).
package js

import _ "embed" // for the line below

// Client is guado.js, an ES module.
//
//go:embed guado.js
var Client []byte
