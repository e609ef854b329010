package identity

import (
	"sync"

	"github.com/guado-server/guado/internal/item"
)

// Change is another user of a connection.
type Change struct {
	Connection    string
	Before, After string // names; empty: a guest
	// Page is the one whose session carried the request that logged in or out, if one did.
	Page string
	// Keep says that the pages stay though the user of before had a name: the application has
	// given its connection to another user.
	Keep bool
}

// news is a change, or the end of a connection or user.
type news struct {
	change Change
	ended  *item.Ended // nil: it is a change
}

// changes are told one after the other, without a lock, in the order in which they were.
type changes struct {
	tell func(n news)

	turn sync.Mutex // held while one is told; taken before mu

	mu      sync.Mutex // guards the rest
	waiting []news
	telling bool
}

// note keeps a change until it is told. The registry calls it when it makes the change.
func (c *changes) note(n news) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, n)
}

// tellAll returns when all changes noted so far are told: who has logged in may rely on it
// that nobody else gets what is pushed from then on.
func (c *changes) tellAll() {
	c.mu.Lock()
	idle := len(c.waiting) == 0 && !c.telling
	c.mu.Unlock()
	if idle {
		return
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	for c.tellOne() {
	}
}

// tellOne tells the oldest change; false: there is none.
func (c *changes) tellOne() bool {
	c.mu.Lock()
	c.telling = len(c.waiting) > 0
	if !c.telling {
		c.waiting = nil
		c.mu.Unlock()
		return false
	}
	next := c.waiting[0]
	c.waiting = c.waiting[1:]
	c.mu.Unlock()
	c.tell(next)
	return true
}
