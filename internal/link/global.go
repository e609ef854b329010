package link

import "errors"

// errBehind ends a worker that does not read.
var errBehind = errors.New("the worker does not read what comes over its link")

// Global sends an update of the global store, or all of it. Whatever is sent later, on
// whatever stream, comes behind it.
func (l *Link) Global(update []byte) error { return l.sent(l.out.lead(KindGlobal, update, true)) }

// Apply has the worker write to one of its stores, behind those that it was sent.
func (l *Link) Apply(payload []byte) error { return l.sent(l.out.lead(KindApply, payload, true)) }
