package exchange

// Key names what a step keeps in exchanges. Each step has its own: `var key exchange.Key`.
type Key struct{ _ byte }

// mostKept bounds what steps can keep in one exchange; the rest of them make theirs anew.
const mostKept = 6

type kept struct {
	key  *Key
	what any
}

// Kept gives what the step has left in x with Keep, for an earlier request; nil: nothing,
// or it is in use, by the same step further in front. It is the caller's then.
//
// A pool per step does the same at several times the price: as long as its request is under
// way a thing is out of the pool, and there are as many as there are requests.
func (x *Exchange) Kept(key *Key) any {
	for i := range x.kept {
		if k := &x.kept[i]; k.key == key {
			what := k.what
			k.what = nil
			return what
		}
	}
	return nil
}

// Keep leaves something in x that the step can use for a later request. It must hold nothing
// of this one.
func (x *Exchange) Keep(key *Key, what any) {
	for i := range x.kept {
		if k := &x.kept[i]; k.key == key || k.key == nil {
			k.key, k.what = key, what
			return
		}
	}
}
