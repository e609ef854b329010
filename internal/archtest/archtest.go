// Package archtest holds the architecture to its word: which package may import
// which, who may use net/http, and what only commands do.
// Before it and after it: nothing; it has tests only.
// Not here: anything that runs.
package archtest
