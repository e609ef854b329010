package http1

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/exchange"
)

// pieceSize bounds one write to the socket, so that a client that takes a large
// answer slowly is seen to make progress.
const pieceSize = 256 << 10

var errSlowReader = errors.New("client did not read its answer in time")

// statusLines are those of the usual statuses with their standard phrase.
var statusLines = func() (lines [600]string) {
	for status := range lines {
		if phrase := framing.Reason(status); phrase != "" {
			lines[status] = "HTTP/1.1 " + strconv.Itoa(status) + " " + phrase + "\r\n"
		}
	}
	return lines
}()

func appendStatus(out []byte, status int, reason string) []byte {
	if reason == "" && status < len(statusLines) && statusLines[status] != "" {
		return append(out, statusLines[status]...)
	}
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(out, ' ') // also before an empty phrase (RFC 9112, section 4)
	out = append(out, reason...)
	return append(out, "\r\n"...)
}

func appendField(out []byte, f *exchange.Field) []byte {
	out = append(out, f.Name...)
	out = append(out, ": "...)
	out = append(out, f.Value...)
	return append(out, "\r\n"...)
}

func appendChunkSize(out []byte, n int64) []byte {
	out = strconv.AppendInt(out, n, 16)
	return append(out, "\r\n"...)
}

// send writes the output buffer, p and tail, in as few system calls as it takes.
func (c *conn) send(p, tail []byte) error {
	w := c.w
	vecs := w.vecs[:0]
	if len(w.out) > 0 {
		vecs = append(vecs, w.out)
	}
	w.out = w.out[:0] // its bytes stay until the next append, after this write
	for {
		piece := p[:min(len(p), pieceSize)]
		if p = p[len(piece):]; len(piece) > 0 {
			vecs = append(vecs, piece)
		}
		if len(p) == 0 && len(tail) > 0 {
			vecs = append(vecs, tail)
		}
		if err := c.write(vecs); err != nil || len(p) == 0 {
			clear(w.vecs[:])
			return err
		}
		vecs = w.vecs[:0]
	}
}

// write writes vecs to the client in the phase that the sweeper looks after.
func (c *conn) write(vecs [][]byte) (err error) {
	if by := c.writeBy.Load(); by != 0 && time.Now().UnixNano() >= by {
		return os.ErrDeadlineExceeded
	}
	c.wr.enter(writing, c.tick())
	switch {
	case c.plain:
		c.toSend, c.sentErr = vecs, nil
		if err = c.raw.Write(c.sendFn); err == nil {
			err = c.sentErr
		}
		c.toSend = nil
	case len(vecs) == 1:
		_, err = c.nc.Write(vecs[0])
	default:
		c.w.vec = vecs
		_, err = c.w.vec.WriteTo(c.nc)
		c.w.vec = nil
	}
	return c.wrote(err)
}

// trySend sends what is left of toSend, in the hands of the runtime's poller; it
// says false, wait, when the socket is full.
func (c *conn) trySend(fd uintptr) bool {
	for len(c.toSend) > 0 {
		n, err := sendNow(fd, c.toSend)
		switch err {
		case 0:
			c.sentSome(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.sentErr = os.NewSyscallError("send", err)
			return true
		}
	}
	return true
}

// sentSome takes n bytes off toSend, whose array is the work's own.
func (c *conn) sentSome(n int) {
	for len(c.toSend) > 0 && n >= len(c.toSend[0]) {
		n -= len(c.toSend[0])
		c.toSend = c.toSend[1:]
	}
	if n > 0 {
		c.toSend[0] = c.toSend[0][n:]
	}
}

// wrote ends the phase.
func (c *conn) wrote(err error) error {
	old := c.wr.enter(writeQuiet, c.tick())
	if !old.expired() {
		return err
	}
	if by := c.writeBy.Load(); by != 0 && time.Now().UnixNano() >= by {
		return os.ErrDeadlineExceeded
	}
	return errSlowReader
}

// hardClose closes the connection such that the client cannot take what it got for
// a complete answer: where only the end of the connection ends the body, by a reset.
func (c *conn) hardClose(reset bool) {
	socket := below(c.nc) // closed below TLS: no close_notify, which would be a clean end
	if l, ok := socket.(interface{ SetLinger(sec int) error }); ok && reset {
		_ = l.SetLinger(0) // fails on a closed connection only
	}
	c.closeQuietly(socket)
}

// closeQuietly closes nc; an error of it tells that the client was faster.
func (c *conn) closeQuietly(nc net.Conn) {
	if err := nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.server.log.Debug("closing a connection", "error", err)
	}
}
