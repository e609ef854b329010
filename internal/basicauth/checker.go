package basicauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"

	"github.com/guado-server/guado/internal/exchange"
)

// verdict of one check.
type verdict uint8

const (
	wrong verdict = iota
	right
	busy // too many checks wait already
	left // the client did not wait
)

const (
	// mostWaiting checks may wait for a processor: each takes one for some 50 ms, on
	// purpose, and a flood of guesses must not take them all.
	mostWaiting = 64
	// mostRemembered bounds the passwords that were found right.
	mostRemembered = 1024
)

// checker compares passwords with hashes. A browser sends the same password with every
// image of a page: one that was right is remembered, as a MAC under a key that only this
// process has, together with its hash; a new hash in the file makes it wrong again.
type checker struct {
	key     [32]byte
	seats   chan struct{}
	waiting atomic.Int32

	mu    sync.Mutex // guards known
	known map[[sha256.Size]byte]struct{}
}

func newChecker() *checker {
	c := &checker{seats: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), known: map[[sha256.Size]byte]struct{}{}}
	rand.Read(c.key[:]) //nolint:errcheck // since Go 1.24 it does not fail
	return c
}

// check takes as long for a name that nobody has as for a wrong password: find gives a
// hash for those, too.
func (c *checker) check(x *exchange.Exchange, hash, password []byte) verdict {
	mac := c.mac(hash, password)
	if c.remembers(mac) {
		return right
	}
	if v := c.sit(x); v != right {
		return v
	}
	err := bcrypt.CompareHashAndPassword(hash, password)
	<-c.seats
	if err != nil {
		return wrong
	}
	c.remember(mac)
	return right
}

// sit waits for a seat while the client does.
func (c *checker) sit(x *exchange.Exchange) verdict {
	select {
	case c.seats <- struct{}{}:
		return right
	default:
	}
	if c.waiting.Add(1) > mostWaiting {
		c.waiting.Add(-1)
		return busy
	}
	defer c.waiting.Add(-1)
	for {
		if x.Gone() == exchange.Closed {
			return left
		}
		select {
		case c.seats <- struct{}{}:
			return right
		case <-x.Bell():
		}
	}
}

func (c *checker) mac(hash, password []byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, c.key[:])
	m.Write(hash) // of one length: nothing can move between the two
	m.Write(password)
	m.Sum(sum[:0])
	return sum
}

func (c *checker) remembers(mac [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.known[mac]
	return ok
}

func (c *checker) remember(mac [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= mostRemembered {
		clear(c.known)
	}
	c.known[mac] = struct{}{}
}
