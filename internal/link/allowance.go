package link

// allowance is what the worker may still send of something on a stream, and what of it
// the client has taken meanwhile. Guarded by Stream.mu.
type allowance struct {
	whole int64 // the credit at the start, and the most that may be under way
	allow int64 // may still be sent
	owed  int64 // taken by the client and not yet granted anew
}

// grants are the two kinds of credit that go back to the worker.
type grants struct{ bytes, files int64 }

func (a *allowance) reset(whole uint32) { *a = allowance{whole: int64(whole), allow: int64(whole)} }

// give adds to what is owed and says how much of it to grant now: the worker hears of
// it in pieces of a quarter of the whole.
func (a *allowance) give(n int64) (grant int64) {
	a.owed = min(a.owed+n, a.whole-a.allow)
	if a.owed == 0 || a.owed < a.whole/4 {
		return 0
	}
	grant, a.owed = a.owed, 0
	a.allow += grant
	return grant
}

// all grants everything that is under way.
func (a *allowance) all() (grant int64) {
	grant, a.owed = a.whole-a.allow, 0
	a.allow = a.whole
	return grant
}
