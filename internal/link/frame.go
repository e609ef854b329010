package link

import (
	"encoding/binary"
	"fmt"
)

// Protocol is the version of protocol/link.md that this package speaks.
const Protocol = 1

// Kind says what a frame carries.
type Kind uint8

// Frames from the host to the worker.
const (
	KindHello     Kind = 0x01
	KindRequest   Kind = 0x02
	KindBody      Kind = 0x03
	KindCancel    Kind = 0x04
	KindInterrupt Kind = 0x05
	// Of a WebSocket. MESSAGE has the same form in both directions.
	KindMessage    Kind = 0x06
	KindDisconnect Kind = 0x07
	KindFileGrant  Kind = 0x0c // FILE_CREDIT
	KindGrant      Kind = 0x0d // CREDIT of the host
	KindDrain      Kind = 0x0e
	KindPing       Kind = 0x0f
	KindReply      Kind = 0x10
	KindGlobal     Kind = 0x13
	KindRestore    Kind = 0x11
	KindRelease    Kind = 0x12
	KindTurn       Kind = 0x14
	KindApply      Kind = 0x15
)

// Frames from the worker to the host.
const (
	KindReady         Kind = 0x41
	KindCommit        Kind = 0x42
	KindStarted       Kind = 0x43
	KindInformational Kind = 0x44
	KindResponseBody  Kind = 0x45
	KindTrailers      Kind = 0x46
	KindFile          Kind = 0x47
	KindCredit        Kind = 0x48 // CREDIT of the worker
	KindPong          Kind = 0x49
	KindLog           Kind = 0x4a
	KindStats         Kind = 0x4b
	KindFailed        Kind = 0x4c
	KindAbort         Kind = 0x4d
	KindDone          Kind = 0x4e
	KindCall          Kind = 0x4f
	KindCallCancel    Kind = 0x50
	KindMessageUp     Kind = 0x51 // MESSAGE of the worker
	KindClose         Kind = 0x52
	KindState         Kind = 0x53
)

// KindPad fills the rest of a ring before it starts again.
const KindPad Kind = 0x7f

var kindNames = map[Kind]string{
	KindHello: "HELLO", KindRequest: "REQUEST", KindBody: "BODY", KindCancel: "CANCEL",
	KindInterrupt: "INTERRUPT", KindFileGrant: "FILE_CREDIT", KindGrant: "CREDIT", KindDrain: "DRAIN", KindPing: "PING",
	KindMessage: "MESSAGE", KindDisconnect: "DISCONNECT", KindMessageUp: "MESSAGE", KindClose: "CLOSE",
	KindReady: "READY", KindCommit: "COMMIT", KindStarted: "STARTED",
	KindInformational: "INFORMATIONAL", KindResponseBody: "RESPONSE_BODY",
	KindTrailers: "TRAILERS", KindFile: "FILE", KindCredit: "CREDIT", KindPong: "PONG",
	KindLog: "LOG", KindStats: "STATS", KindFailed: "FAILED", KindAbort: "ABORT",
	KindGlobal: "GLOBAL", KindApply: "APPLY", KindTurn: "TURN", KindReply: "REPLY", KindCall: "CALL", KindCallCancel: "CALL_CANCEL",
	KindDone: "DONE", KindPad: "PAD",
	KindRestore: "RESTORE", KindRelease: "RELEASE", KindState: "STATE",
}

// String is the name that protocol/link.md gives the kind.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind 0x%02x", uint8(k))
}

// Flags of a frame.
type Flags uint8

// Flags that protocol/link.md defines.
const (
	End   Flags = 1 // last frame of this direction of the stream
	More  Flags = 2 // the message goes on in the next frame of this kind and stream
	Busy  Flags = 4 // with End: the worker sends DONE when it is through with the exchange
	Alone Flags = 8 // of STATE: it goes with no COMMIT
	known       = End | More | Busy | Alone
)

// Reasons for CANCEL.
const (
	CancelGone       uint32 = 1 // the client went away
	CancelHalfClosed uint32 = 2 // the client sent FIN and may still read
	CancelDeadline   uint32 = 3
	CancelStopping   uint32 = 4
)

// Reasons of ABORT.
const (
	AbortException uint32 = 1
	AbortProtocol  uint32 = 2
	AbortCancelled uint32 = 3
	AbortMoved     uint32 = 1<<32 - 1 // the host's own: the state of the answer was refused
)

// Arg of MESSAGE.
const (
	MessageText   uint32 = 1
	MessageBinary uint32 = 2
)

// MessageCost is what a message costs of the credit beside its bytes, so that empty
// ones are bounded too. It is paid with the frame that completes it.
const MessageCost = 64

const (
	headerSize = 16
	frameAlign = 8
	cutArg     = 1 // BODY with End: the body was cut
)

// header is the decoded head of a frame. size counts itself and not the padding.
type header struct {
	size   uint32
	kind   Kind
	flags  Flags
	stream uint32
	arg    uint32
}

// padded is the room that a frame of this size takes.
func padded(size int) int { return (size + frameAlign - 1) &^ (frameAlign - 1) }

// words are the two 64-bit words of a header as they lie on the wire. They are read
// once each from shared memory, so the header that is checked is the one that is used.
func (h header) words() (lo, hi uint64) {
	lo = uint64(h.size) | uint64(h.kind)<<32 | uint64(h.flags)<<40
	hi = uint64(h.stream) | uint64(h.arg)<<32
	return lo, hi
}

func (h header) append(dst []byte) []byte {
	lo, hi := h.words()
	dst = binary.LittleEndian.AppendUint64(dst, lo)
	return binary.LittleEndian.AppendUint64(dst, hi)
}

// parseHeader checks everything that can be checked without knowing the stream.
func parseHeader(lo, hi uint64, maxFrame int) (header, error) {
	h := header{
		size: uint32(lo), kind: Kind(lo >> 32), flags: Flags(lo >> 40),
		stream: uint32(hi), arg: uint32(hi >> 32),
	}
	switch {
	case h.size < headerSize:
		return h, corrupt("frame of size %d", h.size)
	case int64(h.size) > int64(maxFrame):
		return h, corrupt("frame of size %d, the largest is %d", h.size, maxFrame)
	case lo>>48 != 0:
		return h, corrupt("%v frame with reserved bits 0x%04x", h.kind, lo>>48)
	case h.flags&^known != 0:
		return h, corrupt("%v frame with unknown flags 0x%02x", h.kind, uint8(h.flags))
	}
	return h, nil
}

// streamID joins a slot and its generation.
func streamID(slot, generation uint32) uint32 { return generation<<16 | slot }

func slotOf(id uint32) uint32       { return id & 0xffff }
func generationOf(id uint32) uint32 { return id >> 16 }
