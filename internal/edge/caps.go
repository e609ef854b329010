package edge

import (
	"errors"
	"net/netip"
	"sync"
)

var errOverCap = errors.New("too many connections from one address")

// caps counts the open connections, together and per address.
type caps struct {
	mu      sync.Mutex // guards all
	most    int        // 0: no cap
	perAddr int        // 0: no cap
	total   int
	all     uint64 // ever
	addrs   map[netip.Addr]int
	free    chan struct{} // closed when there may be a place; nil: nobody waits for one
}

func newCaps(total, perAddr int) *caps {
	return &caps{most: total, perAddr: perAddr, addrs: map[netip.Addr]int{}}
}

// change puts other caps in place. Connections over a smaller one stay open.
func (c *caps) change(total, perAddr int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.perAddr = total, perAddr
	c.wake()
}

// acquire takes a place, waiting for one; false when stop was closed.
func (c *caps) acquire(stop <-chan struct{}) bool {
	for {
		c.mu.Lock()
		if c.most <= 0 || c.total < c.most {
			c.total++
			c.all++
			c.mu.Unlock()
			return true
		}
		if c.free == nil {
			c.free = make(chan struct{})
		}
		free := c.free
		c.mu.Unlock()
		select {
		case <-free:
		case <-stop:
			return false
		}
	}
}

func (c *caps) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	c.wake()
}

// wake tells accept loops that wait to look again. Called with mu held.
func (c *caps) wake() {
	if c.free != nil {
		close(c.free)
		c.free = nil
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
	if a.Is6() {
		if net, err := a.Prefix(64); err == nil {
			a = net.Addr()
		}
	}
	c := p.caps
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.perAddr > 0 && c.addrs[a] >= c.perAddr {
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
