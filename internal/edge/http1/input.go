package http1

// bufferSize is that of the input and output buffers of a connection while an
// exchange runs: room for a browser's head and for a small answer.
const bufferSize = 4 << 10

// keptSize is the largest buffer that goes back into the pool.
const keptSize = 20 << 10

// input is what was read from the client and not yet used. Bytes below floor are
// the head of the running exchange, whose fields point there: they stay.
type input struct {
	buf   []byte
	r, w  int
	floor int
}

func (in *input) buffered() []byte { return in.buf[in.r:in.w] }

// take counts n buffered bytes as used.
func (in *input) take(n int) { in.r += n }

// hold keeps the n bytes before the unread ones in their place; release lets go.
func (in *input) hold()    { in.floor = in.r }
func (in *input) release() { in.floor = 0 }

// space gives room behind the unread bytes, moving them or taking a larger buffer of
// that size. A held head stays in the old one.
func (in *input) space(size int) []byte {
	if in.r == in.w {
		in.r, in.w = in.floor, in.floor
	}
	if in.w < len(in.buf) {
		return in.buf[in.w:]
	}
	unread := in.w - in.r
	if in.r > in.floor {
		copy(in.buf[in.floor:], in.buffered())
		in.r, in.w = in.floor, in.floor+unread
		return in.buf[in.w:]
	}
	grown := make([]byte, max(size, unread+bufferSize))
	copy(grown, in.buffered())
	in.buf, in.r, in.w, in.floor = grown, 0, unread, 0
	return in.buf[in.w:]
}

// enlarge gives an unused input a buffer of at least that size.
func (in *input) enlarge(size int) {
	if len(in.buf) < size {
		in.buf = make([]byte, size)
	}
}

// push appends one byte that a watch has read.
func (in *input) push(c byte) {
	in.space(2 * len(in.buf))[0] = c
	in.w++
}

// clear makes in ready for the pool.
func (in *input) clear() {
	if cap(in.buf) > keptSize || cap(in.buf) < bufferSize {
		in.buf = make([]byte, bufferSize)
	}
	in.r, in.w, in.floor = 0, 0, 0
}
