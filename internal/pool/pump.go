package pool

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// pump carries a request body to the worker as it comes from the client, in a
// goroutine of its own: both ways of an exchange flow at the same time.
type pump struct {
	bell chan struct{} // the worker gave credit, or the link ended
	stop atomic.Bool
	done chan struct{}

	mu  sync.Mutex // guards err
	err error      // why the body was cut
}

func (f *flight) startPump(s *link.Stream, x *exchange.Exchange) {
	p := &pump{bell: make(chan struct{}, 1), done: make(chan struct{})}
	f.pump.Store(p)
	go func() {
		defer close(p.done)
		p.run(s, x.Body, f.ring)
	}()
}

// stopPump ends the pump, also one that waits for the client, before the exchange
// ends. What the client still sends is the lane's affair.
func (f *flight) stopPump(x *exchange.Exchange) {
	p := f.pump.Load()
	if p == nil {
		return
	}
	p.stop.Store(true)
	p.ring()
	select {
	case <-p.done:
	default:
		x.Body.Interrupt()
		<-p.done
	}
	f.pump.Store(nil)
}

func (p *pump) ring() {
	select {
	case p.bell <- struct{}{}:
	default:
	}
}

// failure is why the client's body was cut, if it was.
func (p *pump) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// run reads and sends in turn; tell wakes the exchange's goroutine when the body was
// cut.
func (p *pump) run(s *link.Stream, body exchange.Body, tell func()) {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	for {
		n, err := body.Read(*buf)
		how := link.BodyMore
		switch {
		case err == nil:
		case err == io.EOF: //nolint:errorlint // Body gives the sentinel itself
			how = link.BodyEnd
		case errors.Is(err, exchange.ErrInterrupted):
			return
		default:
			how = link.BodyCut
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
		}
		if !p.send(s, (*buf)[:n], how) || how != link.BodyMore {
			if how == link.BodyCut {
				tell()
			}
			return
		}
	}
}

// send sends all of b as the worker takes it; false when nobody wants it any more.
func (p *pump) send(s *link.Stream, b []byte, how link.BodyFlag) bool {
	for {
		n, err := s.Body(b, how)
		if err != nil {
			return false
		}
		b = b[n:]
		if len(b) == 0 {
			return true
		}
		<-p.bell
		if p.stop.Load() {
			return false
		}
	}
}
