package harness

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Network is between clients and a server, and can be cut. The server behind it may be
// another one later: clients keep the address.
type Network struct {
	Addr string

	l    net.Listener
	busy sync.WaitGroup

	mu     sync.Mutex // guards the rest
	target string
	cut    bool
	closed bool
	conns  map[net.Conn]struct{}
}

// NewNetwork makes one that leads to target. It is closed when the test ends.
func NewNetwork(tb testing.TB, target string) *Network {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	n := &Network{Addr: l.Addr().String(), l: l, target: target, conns: map[net.Conn]struct{}{}}
	n.busy.Go(n.accept)
	tb.Cleanup(n.close)
	return n
}

// Cut ends all connections and lets no other through.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	n.endLocked()
}

// Restore lets connections through again, to target.
func (n *Network) Restore(target string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.target = false, target
}

func (n *Network) endLocked() {
	for c := range n.conns {
		_ = c.Close() // what its copier sees is the end of it
	}
}

func (n *Network) accept() {
	for {
		c, err := n.l.Accept()
		if err != nil {
			return
		}
		n.busy.Go(func() { n.carry(c) })
	}
}

func (n *Network) carry(c net.Conn) {
	defer func() { _ = c.Close() }()
	n.mu.Lock()
	target, cut := n.target, n.cut
	n.mu.Unlock()
	if cut {
		return
	}
	d, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = d.Close() }()
	if !n.add(c, d) {
		return
	}
	defer n.remove(c, d)
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, d) // it ends with either connection
		_ = c.Close()
	}()
	_, _ = io.Copy(d, c) // likewise
	_ = d.Close()
	<-back
}

func (n *Network) add(all ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut || n.closed {
		return false
	}
	for _, c := range all {
		n.conns[c] = struct{}{}
	}
	return true
}

func (n *Network) remove(all ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range all {
		delete(n.conns, c)
	}
}

func (n *Network) close() {
	n.mu.Lock()
	n.closed = true
	n.endLocked()
	n.mu.Unlock()
	_ = n.l.Close() // its accept loop sees it
	n.busy.Wait()
}
