package websocket

import (
	"errors"
	"io"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/internal/exchange"
)

const (
	inputSize  = 4 << 10  // of a read
	growth     = 64 << 10 // of a message's memory: never more ahead of what has come
	keptMemory = 64 << 10 // of a buffer that goes back to a pool
)

// input holds bytes between the connection and the frames. A socket has one only while
// it has bytes in it.
type input struct {
	buf  [inputSize]byte
	r, w int
}

var inputs = sync.Pool{New: func() any { return new(input) }}

var messageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// reader takes frames apart. It belongs to the socket's goroutine.
type reader struct {
	k      *Socket
	in     *input
	early  []byte // came behind the handshake
	inside bool   // a frame or message has begun
	direct []byte // where the next read goes, past the input

	got     int
	gotErr  error
	fillFn  func(fd uintptr) bool
	first   [1]byte
	scratch [ws.MaxHeaderSize]byte

	message   []byte
	memory    *[]byte
	kind      ws.OpCode // of the message under way; 0: none
	packed    bool
	fragments int
	checked   int // bytes of the message known to be UTF-8
}

func (r *reader) begin(early []byte) {
	r.fillFn = r.tryFill
	r.early = early
}

// release gives all memory back.
func (r *reader) release() {
	if r.in != nil {
		inputs.Put(r.in)
		r.in = nil
	}
	r.early = nil
	r.dropMessage()
}

func (r *reader) dropMessage() {
	if r.memory != nil {
		if cap(r.message) <= keptMemory {
			*r.memory = r.message[:0]
			messageBuffers.Put(r.memory)
		}
		r.memory, r.message = nil, nil
	}
	r.kind, r.packed, r.fragments, r.checked = 0, false, 0, 0
}

// fill brings bytes into the input, or into direct. The input goes back to its pool
// while there are none: many sockets idle.
func (r *reader) fill() error {
	if len(r.early) > 0 {
		if r.in == nil {
			r.in = inputs.Get().(*input)
		}
		r.in.r, r.in.w = 0, copy(r.in.buf[:], r.early)
		r.early = r.early[r.in.w:]
		return nil
	}
	var n int
	var err error
	if r.k.raw != nil {
		r.got, r.gotErr = 0, nil
		if err = r.k.raw.Read(r.fillFn); err == nil {
			n, err = r.got, r.gotErr
		}
	} else {
		n, err = r.fillSealed()
	}
	if r.got = n; n > 0 {
		r.k.heard.Add(1)
		r.k.server.bytesIn.Add(uint64(n))
		return nil
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// tryFill reads in the hands of the runtime's poller; false: wait.
func (r *reader) tryFill(fd uintptr) bool {
	if len(r.direct) > 0 {
		n, again, err := recvNow(fd, r.direct)
		r.got, r.gotErr = n, err
		return !again
	}
	if r.in == nil {
		r.in = inputs.Get().(*input)
	}
	n, again, err := recvNow(fd, r.in.buf[:])
	if again || n == 0 {
		inputs.Put(r.in)
		r.in = nil
	} else {
		r.in.r, r.in.w = 0, n
	}
	r.got, r.gotErr = n, err
	return !again
}

// fillSealed waits for the first byte of a frame without a buffer: the rest of the
// record is decrypted already by then.
func (r *reader) fillSealed() (int, error) {
	if len(r.direct) > 0 {
		return r.k.nc.Read(r.direct)
	}
	if !r.inside {
		if r.in != nil {
			inputs.Put(r.in)
			r.in = nil
		}
		n, err := r.k.nc.Read(r.first[:])
		if n > 0 {
			r.in = inputs.Get().(*input)
			r.in.r, r.in.w = 0, copy(r.in.buf[:], r.first[:])
			r.inside = true
		}
		return n, err
	}
	if r.in == nil {
		r.in = inputs.Get().(*input)
	}
	n, err := r.k.nc.Read(r.in.buf[:])
	r.in.r, r.in.w = 0, n
	return n, err
}

// Read is io.Reader for headers and control frames.
func (r *reader) Read(p []byte) (int, error) {
	for r.in == nil || r.in.r == r.in.w {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.in.buf[r.in.r:r.in.w])
	r.in.r += n
	if r.in.r == r.in.w {
		inputs.Put(r.in)
		r.in = nil
	}
	return n, nil
}

// some reads at least a byte into p, past the input where that has nothing.
func (r *reader) some(p []byte) (int, error) {
	if r.in != nil || len(r.early) > 0 || len(p) < inputSize {
		return r.Read(p)
	}
	r.direct = p
	err := r.fill()
	r.direct = nil
	return r.got, err
}

// readFull fills p.
func (r *reader) readFull(p []byte) error {
	for len(p) > 0 {
		n, err := r.some(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// read takes frames until the client has closed, or may not go on.
func (r *reader) read() exchange.SocketEnd {
	for {
		r.inside = r.kind != 0
		h, err := ws.ReadHeaderBuffer(r, r.scratch[:0])
		r.inside = true
		if err != nil {
			if errors.Is(err, ws.ErrHeaderLengthMSB) || errors.Is(err, ws.ErrHeaderLengthUnexpected) {
				return r.k.fail(exchange.CloseProtocol, "%w", err)
			}
			return gone(err)
		}
		state := ws.StateServerSide
		if r.kind != 0 {
			state = state.Set(ws.StateFragmented)
		}
		if r.k.deflate > 0 && h.Rsv == ws.Rsv(true, false, false) && h.OpCode.IsData() && h.OpCode != ws.OpContinuation {
			state = state.Set(ws.StateExtended)
		}
		if err := ws.CheckHeader(h, state); err != nil {
			return r.k.fail(exchange.CloseProtocol, "%w", err)
		}
		var end exchange.SocketEnd
		var over bool
		if h.OpCode.IsControl() {
			end, over = r.control(h)
		} else {
			end, over = r.data(h)
		}
		if over {
			return end
		}
	}
}

// gone is the end of a connection without a close frame.
func gone(err error) exchange.SocketEnd {
	return exchange.SocketEnd{Code: exchange.CloseAbnormal, Err: err}
}

func (r *reader) control(h ws.Header) (exchange.SocketEnd, bool) {
	var room [ws.MaxControlFramePayloadSize]byte
	p := room[:h.Length]
	if err := r.readFull(p); err != nil {
		return gone(err), true
	}
	ws.Cipher(p, h.Mask, 0)
	switch h.OpCode {
	case ws.OpPing:
		r.k.control(ws.OpPong, p)
	case ws.OpClose:
		return r.closed(p), true
	}
	return exchange.SocketEnd{}, false
}

// closed answers the client's close frame with its own code.
func (r *reader) closed(p []byte) exchange.SocketEnd {
	if len(p) == 0 {
		r.k.close(exchange.CloseNoStatus, "")
		return exchange.SocketEnd{Code: exchange.CloseNoStatus}
	}
	code, reason := ws.ParseCloseFrameData(p)
	if len(p) == 1 {
		return r.k.fail(exchange.CloseProtocol, "close frame of one byte")
	}
	if err := ws.CheckCloseFrameData(code, reason); err != nil {
		return r.k.fail(exchange.CloseProtocol, "%w", err)
	}
	if code >= 1015 && code < 3000 || code >= 5000 {
		return r.k.fail(exchange.CloseProtocol, "close code %d is not defined", code)
	}
	r.k.close(uint16(code), "")
	return exchange.SocketEnd{Code: uint16(code), Reason: reason}
}

func (r *reader) data(h ws.Header) (exchange.SocketEnd, bool) {
	limits := r.k.limits
	if h.OpCode != ws.OpContinuation {
		r.kind, r.packed = h.OpCode, h.Rsv != 0
		r.memory = messageBuffers.Get().(*[]byte)
		r.message = (*r.memory)[:0]
	}
	if r.fragments++; r.fragments > limits.Fragments {
		return r.k.fail(exchange.ClosePolicy, "a message has more than %d frames", limits.Fragments), true
	}
	if h.Length > int64(limits.Message-len(r.message)) {
		return r.k.fail(exchange.CloseTooBig, "a message is longer than %d bytes", limits.Message), true
	}
	for left, at := int(h.Length), 0; left > 0; {
		n := min(left, growth)
		start := len(r.message)
		r.message = slices.Grow(r.message, n)[:start+n]
		p := r.message[start:]
		text := r.kind == ws.OpText && !r.packed
		if text {
			n, err := r.some(p) // wrong text is refused as soon as it is here
			if err != nil {
				return gone(err), true
			}
			p = p[:n]
			r.message = r.message[:start+n]
		} else if err := r.readFull(p); err != nil {
			return gone(err), true
		}
		ws.Cipher(p, h.Mask, at)
		at, left = at+len(p), left-len(p)
		if text && !r.valid(false) {
			return r.k.fail(exchange.CloseInvalidData, "text that is not UTF-8"), true
		}
	}
	if !h.Fin {
		return exchange.SocketEnd{}, false
	}
	return r.deliver()
}

// deliver hands a whole message over.
func (r *reader) deliver() (exchange.SocketEnd, bool) {
	p := r.message
	if r.packed {
		memory := messageBuffers.Get().(*[]byte)
		defer func() {
			if cap(p) <= keptMemory {
				*memory = p[:0]
				messageBuffers.Put(memory)
			}
		}()
		var err error
		if p, err = unpack((*memory)[:0], r.message, r.k.limits.Message); err != nil {
			if errors.Is(err, errTooBig) {
				return r.k.fail(exchange.CloseTooBig, "%w", err), true
			}
			return r.k.fail(exchange.CloseInvalidData, "%w", err), true
		}
	}
	text := r.kind == ws.OpText
	if text && (r.packed && !utf8.Valid(p) || !r.packed && !r.valid(true)) {
		return r.k.fail(exchange.CloseInvalidData, "text that is not UTF-8"), true
	}
	r.k.server.messages.Add(1)
	r.k.mu.Lock()
	closing := r.k.closing
	r.k.mu.Unlock()
	if !closing {
		r.k.busy.Store(true)
		r.k.handler.Message(text, p)
		r.k.busy.Store(false)
	}
	r.dropMessage()
	return exchange.SocketEnd{}, false
}

// valid checks the bytes of a text that have come since the last time. A character that
// is not complete yet is wrong only at the end.
func (r *reader) valid(end bool) bool {
	p := r.message[r.checked:]
	cutAt := len(p)
	if !end {
		for i := 1; i <= min(3, len(p)); i++ {
			c := p[len(p)-i]
			if utf8.RuneStart(c) {
				if !utf8.FullRune(p[len(p)-i:]) {
					cutAt = len(p) - i
				}
				break
			}
		}
	}
	if !utf8.Valid(p[:cutAt]) {
		return false
	}
	r.checked += cutAt
	return true
}

// discardMost bounds what is thrown away of a client that does not stop.
const discardMost = 16 << 20

// discard reads until the client has ended its side; the wheel bounds the time.
func (r *reader) discard() {
	r.dropMessage()
	for n := 0; n < discardMost; {
		if r.in != nil {
			n += r.in.w
			inputs.Put(r.in)
			r.in = nil
		}
		r.inside = true
		if r.fill() != nil {
			return
		}
	}
}
