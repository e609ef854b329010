// Package version names the release: one number for binary, worker package, wheels
// and handshake.
// Before it and after it: nothing. Not here: the protocol's version (protocol/link.md).
package version

// Version of this release. python/guado/__init__.py says the same, and a test holds
// them together.
const Version = "0.1.0"
