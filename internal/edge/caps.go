package edge

import (
	"errors"
	"net/netip"
	"sync"
)

var errOverCap = errors.New("too many connections from one address")

// caps counts the open connections, together and per address.
type caps struct {
	slots   chan struct{} // nil: no cap
	perAddr int
	mu      sync.Mutex // guards the rest
	total   int
	all     uint64 // ever
	addrs   map[netip.Addr]int
}

func newCaps(total, perAddr int) *caps {
	c := &caps{perAddr: perAddr, addrs: map[netip.Addr]int{}}
	if total > 0 {
		c.slots = make(chan struct{}, total)
	}
	return c
}

// acquire takes a place, waiting for one; false when stop was closed.
func (c *caps) acquire(stop <-chan struct{}) bool {
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
		case <-stop:
			return false
		}
	}
	c.mu.Lock()
	c.total++
	c.all++
	c.mu.Unlock()
	return true
}

func (c *caps) release() {
	c.mu.Lock()
	c.total--
	c.mu.Unlock()
	if c.slots != nil {
		<-c.slots
	}
}

func (c *caps) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

func (c *caps) ever() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// place is what one connection holds of the caps.
type place struct {
	caps *caps
	addr netip.Addr // counted; invalid: not
}

// enterAddr counts the connection for its address; false when there are too many. An
// IPv6 client has a whole /64 to choose addresses from, so that is what counts.
func (p *place) enterAddr(a netip.Addr) bool {
	c := p.caps
	if c.perAddr <= 0 {
		return true
	}
	if a.Is6() {
		if net, err := a.Prefix(64); err == nil {
			a = net.Addr()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.addrs[a] >= c.perAddr {
		return false
	}
	c.addrs[a]++
	p.addr = a
	return true
}

// leave gives the place back, at the end of the connection.
func (p *place) leave() {
	c := p.caps
	if p.addr.IsValid() {
		c.mu.Lock()
		if c.addrs[p.addr]--; c.addrs[p.addr] == 0 {
			delete(c.addrs, p.addr)
		}
		c.mu.Unlock()
	}
	c.release()
}
