package exchange

import "errors"

// Errors that a [Socket] gives.
var (
	ErrSocketClosed = errors.New("the WebSocket is closed")
	ErrSlowReader   = errors.New("the client does not read what it is sent")
)

// Upgrader makes a WebSocket of an exchange. A step in front of a mount has checked
// its Origin and puts one into [Exchange.Upgrader].
type Upgrader interface {
	// Check tells what is wrong with the handshake, before anybody is asked whether to
	// accept it.
	Check(x *Exchange) *Problem
	// Upgrade answers 101 with these fields, of which Sec-WebSocket-Protocol is the
	// subprotocol, and takes the connection over: x.Answer must not be used after it
	// unless there was an error. Nothing is read before Socket.Start.
	Upgrade(x *Exchange, fields []Field, h SocketHandler) (Socket, error)
}

// Socket is a WebSocket whose handshake is done. Its methods may be called from any
// goroutine and never wait for the client.
type Socket interface {
	// Start begins to read: from now on the handler hears of the client.
	Start()
	// Send sends a message, or with fin false a part of one whose other parts follow
	// in further calls, and tells how many bytes wait for the client to read. Over
	// the limit it is [ErrSlowReader], and the connection is cut.
	Send(text bool, p []byte, fin bool) (waiting int, err error)
	// Close begins the closing handshake. Messages that come meanwhile are dropped.
	// Code 0 sends none.
	Close(code uint16, reason string)
}

// SocketHandler hears of a [Socket].
type SocketHandler interface {
	// Message is a whole message; text is valid UTF-8. The bytes are the socket's and
	// valid until it returns. Nothing is read from the client meanwhile, which is how
	// a handler holds it back.
	Message(text bool, p []byte)
	// Drained says that nothing waits for the client any more, after something had.
	Drained()
	// Closed is the last call, once: the client's close frame came, or the connection
	// ended without one. It comes also after Socket.Close.
	Closed(e SocketEnd)
}

// SocketEnd is how a WebSocket ended, in the client's words.
type SocketEnd struct {
	Code   uint16 // of its close frame; 1005: it had none; 1006: no frame came
	Reason string
	Err    error // why no frame came, for the log
}

// Close codes of RFC 6455 and its registry that the host itself uses.
const (
	CloseNormal      = 1000
	CloseGoingAway   = 1001
	CloseProtocol    = 1002
	CloseNoStatus    = 1005
	CloseAbnormal    = 1006
	CloseInvalidData = 1007
	ClosePolicy      = 1008
	CloseTooBig      = 1009
	CloseInternal    = 1011
	CloseRestart     = 1012
	CloseTryLater    = 1013
)
