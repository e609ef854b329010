package exchange

// Once is told what of an exchange is real, by who reads what a worker says, before any of it
// is passed on: a step that sees to it that a request is done once asks for it in
// [Exchange.Once]. It must not wait, and may be told after the exchange is over.
type Once interface {
	// Keeps gives what must be kept together with the state that is about to be applied, or not
	// at all: Committed, or Answered with this payload, follows where it was. nil: nothing.
	Keeps(payload []byte) any
	// Committed says that some of what the application has changed is kept, whatever comes
	// behind it.
	Committed()
	// Answered says that the head of the answer has come, and all that the application had
	// changed by then is kept. payload is the whole answer, in the form of the link; nil: it
	// is not here at once. The bytes are the link's.
	Answered(payload []byte)
}

// Left is Gone, but for an exchange that is to come to its end though nobody waits for it.
func (x *Exchange) Left() Gone {
	if x.Stays {
		return Present
	}
	return x.Gone()
}
