package identity

import "sync"

// Change is another user of a connection.
type Change struct {
	Connection    string
	Before, After string // names; empty: a guest
	// Page is the one whose session carried the request that logged in or out, if one did.
	Page string
}

// changes are told one after the other, without a lock, in the order in which they were.
type changes struct {
	tell func(c Change)

	mu      sync.Mutex // guards the rest
	waiting []Change
	telling bool
}

// note keeps a change until it is told. The registry calls it when it makes the change.
func (c *changes) note(n Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, n)
}

// tellAll tells what waits, or leaves that to who does so right now.
func (c *changes) tellAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.telling {
		return
	}
	c.telling = true
	for len(c.waiting) > 0 {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		c.tell(next)
		c.mu.Lock()
	}
	c.telling, c.waiting = false, nil
}
