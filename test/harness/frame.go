package harness

import (
	"fmt"
	"io"

	"github.com/gobwas/ws"
)

// largestFrame is more than any server of a test sends.
const largestFrame = 64 << 20

// ReadFrame reads a frame of a WebSocket server.
func ReadFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	if f.Header.Length > largestFrame {
		return f, fmt.Errorf("a frame of %d bytes", f.Header.Length)
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}
