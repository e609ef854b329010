// Package js holds the client for browsers, so that every Guado can serve the one that
// fits it.
// Before it and after it: nothing.
// Not here: who serves it; its tests (js/test).
package js

import _ "embed" // for the lines below

// Client is guado.js, an ES module.
//
//go:embed guado.js
var Client []byte

// Values is values.js, which it imports: what is shared with a page.
//
//go:embed values.js
var Values []byte
