package http1

import (
	"io"
	"log/slog"
	"syscall"
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// endingConn is a connection that ends with err behind what its client has sent.
type endingConn struct {
	memConn
	err error
}

func (c *endingConn) Read(p []byte) (int, error) {
	n, err := c.memConn.Read(p)
	if err != nil {
		err = c.err
	}
	return n, err
}

// A connection that is busy has an exchange, and the sweeper and CloseAll reach for it.
func TestAConnectionThatEndsInsideAHeadIsNotLeftBusy(t *testing.T) {
	for _, end := range []struct {
		sent string
		err  error
	}{
		{"", io.EOF}, {"\r\n", io.EOF}, {"\r\n", syscall.ECONNRESET}, {"G", syscall.ECONNRESET}, {"G", io.EOF},
		{"GET / HTTP/1.1\r\nHost: x\r\n", syscall.ECONNRESET},
	} {
		s := New(lane.Limits{}, lane.Hooks{Render: func(_ *exchange.Exchange, p *exchange.Problem) (exchange.Head, []byte) {
			return exchange.Head{Status: p.Status}, nil
		}}, slog.New(slog.DiscardHandler))
		c := s.newConn(&endingConn{memConn: memConn{in: []byte(end.sent), piece: 1}, err: end.err}, &lane.Conn{})
		c.run()
		if phase := c.rd.load().phase(); c.w != nil || phase == readBusy || phase == readBody {
			t.Errorf("after %q and %v it holds an exchange (%t) or is in phase %d", end.sent, end.err, c.w != nil, phase)
		}
	}
}
