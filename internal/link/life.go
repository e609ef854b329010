package link

// life is how far the worker's answer on a stream is.
type life uint8

const (
	lifeHead life = iota // no head yet
	lifeBody             // the head came
	lifeBusy             // END came with BUSY: DONE will follow
	lifeOver             // the worker is through with the exchange
)

var lifeNames = [...]string{"before the head", "after the head", "after END", "after the exchange"}

func (l life) String() string { return lifeNames[l] }

// moves are the frames that a worker may send in each part of an exchange's life, and
// the part that follows when they do not carry END. CREDIT and LOG are allowed in all.
var moves = [...]map[Kind]life{
	lifeHead: {KindInformational: lifeHead, KindCommit: lifeBody, KindAbort: lifeOver},
	lifeBody: {KindResponseBody: lifeBody, KindFile: lifeBody, KindTrailers: lifeBody, KindAbort: lifeOver},
	lifeBusy: {KindDone: lifeOver, KindAbort: lifeOver},
	lifeOver: {},
}

// after gives the part of the life that a frame leads to.
func (l life) after(h header, socket bool) (life, error) {
	next, ok := move(l, h.kind, socket)
	switch {
	case !ok:
		return l, corrupt("%v %v", h.kind, l)
	case h.flags&More != 0 && (h.kind != KindCommit && h.kind != KindMessageUp || h.flags&(End|Busy) != 0):
		return l, corrupt("%v with flags 0x%02x", h.kind, uint8(h.flags))
	case h.flags&More != 0:
		return l, nil
	case (h.kind == KindTrailers || h.kind == KindClose) && h.flags&End == 0:
		return l, corrupt("%v without END", h.kind)
	case h.kind == KindMessageUp && h.flags&End != 0:
		return l, corrupt("MESSAGE with END")
	case h.flags&End == 0 && h.flags&Busy != 0:
		return l, corrupt("%v with BUSY and without END", h.kind)
	case next != lifeBody || h.flags&End == 0:
		return next, nil
	case h.flags&Busy != 0:
		return lifeBusy, nil
	default:
		return lifeOver, nil
	}
}

// move looks the table up without the cost of a map on the hot path.
func move(l life, k Kind, socket bool) (life, bool) {
	switch {
	case l == lifeHead && k == KindCommit, l == lifeBody && k == KindResponseBody:
		return lifeBody, true
	case k == KindMessageUp, k == KindClose:
		// Whether the head was one of 101 is known to who takes the frames.
		return lifeBody, socket && l == lifeBody
	}
	next, ok := moves[l][k]
	return next, ok
}
