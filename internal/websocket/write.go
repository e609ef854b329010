package websocket

import (
	"encoding/binary"
	"time"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/internal/exchange"
)

const (
	pieceSize = 64 << 10 // of one write to a client that is behind
	keptQueue = 4 << 10  // memory that stays with a socket between two messages
)

// Send see [exchange.Socket].
func (k *Socket) Send(text bool, p []byte, fin bool) (int, error) {
	op := ws.OpBinary
	if text {
		op = ws.OpText
	}
	if k.packs(len(p), fin) {
		packed, err := pack(p, k.deflate, fin)
		if err != nil {
			return 0, err
		}
		p = packed.Bytes()
		defer giveBack(packed)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing {
		return 0, exchange.ErrSocketClosed
	}
	compressed := k.packing
	if k.fragmented {
		op, compressed = ws.OpContinuation, false // the first frame says it
	}
	k.fragmented, k.packing = !fin, k.packing && !fin
	if err := k.frame(op, fin, compressed, p); err != nil {
		return 0, err
	}
	if fin {
		k.server.sent.Add(1)
	}
	return len(k.queue) + k.leaving, nil
}

// control sends a control frame, unless the closing handshake has begun.
func (k *Socket) control(op ws.OpCode, p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closing {
		_ = k.frame(op, true, false, p) // an error has cut the connection
	}
}

// frame sends one frame. Under mu.
func (k *Socket) frame(op ws.OpCode, fin, compressed bool, p []byte) error {
	var room [10]byte
	return k.put(appendHeader(room[:0], op, fin, compressed, len(p)), p)
}

// appendHeader appends the header of a frame of the server, which is not masked.
func appendHeader(b []byte, op ws.OpCode, fin, compressed bool, n int) []byte {
	first := byte(op)
	if fin {
		first |= 0x80
	}
	if compressed {
		first |= 0x40
	}
	switch {
	case n < 126:
		return append(b, first, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(n))
	}
}

// put writes what the connection takes now and queues the rest. Under mu.
func (k *Socket) put(head, p []byte) error {
	if k.over {
		return exchange.ErrSocketClosed
	}
	if waiting := len(k.queue) + k.leaving; waiting > 0 && waiting+len(p) > k.limits.Waiting {
		k.server.slow.Add(1)
		k.cutLocked(exchange.ErrSlowReader)
		return exchange.ErrSlowReader
	}
	if !k.writing && k.raw != nil {
		k.parts = [2][]byte{head, p}
		k.sentNow, k.sendErr = 0, nil
		err := k.raw.Write(k.sendFn)
		k.parts = [2][]byte{}
		if err == nil {
			err = k.sendErr
		}
		if err != nil {
			k.cutLocked(err)
			return exchange.ErrSocketClosed
		}
		k.server.bytesOut.Add(uint64(k.sentNow))
		n := min(k.sentNow, len(head))
		head, p = head[n:], p[k.sentNow-n:]
	}
	if len(head)+len(p) == 0 {
		return nil
	}
	k.queue = append(append(k.queue, head...), p...)
	if !k.writing {
		k.writing = true
		k.server.begin()
		go k.flush()
	}
	return nil
}

// trySend is one look, in the hands of the runtime's poller; what the socket does not
// take is queued, never waited for.
func (k *Socket) trySend(fd uintptr) bool {
	k.sentNow, k.sendErr = sendNow(fd, k.parts[0], k.parts[1])
	return true
}

// flush is the writer of a socket whose client is behind, or that has TLS. It ends as
// soon as nothing waits.
func (k *Socket) flush() {
	defer k.server.done()
	for {
		k.mu.Lock()
		chunk := k.queue
		k.queue, k.leaving = nil, len(chunk)
		if len(chunk) == 0 || k.over {
			k.writing, k.leaving = false, 0
			if k.shut && !k.over {
				k.shutLocked()
			}
			k.mu.Unlock()
			k.handler.Drained()
			return
		}
		k.mu.Unlock()
		for p := chunk; len(p) > 0; {
			piece := p[:min(len(p), pieceSize)]
			p = p[len(piece):]
			if k.limits.WriteIdle > 0 {
				_ = k.nc.SetWriteDeadline(time.Now().Add(k.limits.WriteIdle)) // fails with the write
			}
			n, err := k.nc.Write(piece)
			k.server.bytesOut.Add(uint64(n))
			k.mu.Lock()
			k.leaving -= len(piece)
			if err != nil {
				k.cutLocked(err)
			}
			k.mu.Unlock()
			if err != nil {
				break
			}
		}
		if cap(chunk) <= keptQueue {
			k.mu.Lock()
			if k.queue == nil {
				k.queue = chunk[:0]
			}
			k.mu.Unlock()
		}
	}
}

// Prepared is a message that goes to many sockets: framed once, and packed once for
// those that take it so.
type Prepared struct {
	plain, packed []byte
}

// Prepare frames a message for [Socket.SendPrepared].
func Prepare(text bool, p []byte, compress bool) (*Prepared, error) {
	op := ws.OpBinary
	if text {
		op = ws.OpText
	}
	m := &Prepared{plain: append(appendHeader(make([]byte, 0, len(p)+10), op, true, false, len(p)), p...)}
	if compress {
		b, err := pack(p, 1<<15, true)
		if err != nil {
			return nil, err
		}
		m.packed = append(appendHeader(make([]byte, 0, b.Len()+10), op, true, true, b.Len()), b.Bytes()...)
		giveBack(b)
	}
	return m, nil
}

// SendPrepared is [Socket.Send] of a message that many get.
func (k *Socket) SendPrepared(m *Prepared) (int, error) {
	bytes := m.plain
	if m.packed != nil && k.deflate == 1<<15 {
		bytes = m.packed
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing {
		return 0, exchange.ErrSocketClosed
	}
	if err := k.put(nil, bytes); err != nil {
		return 0, err
	}
	k.server.sent.Add(1)
	return len(k.queue) + k.leaving, nil
}
