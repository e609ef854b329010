package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// Tokens are what programs show to be let in. Each is random, good for one holder, and
// kept as its hash only. The zero value has none.
type Tokens struct {
	mu      sync.Mutex // guards holders
	holders map[string]token
}

type token struct {
	sum [sha256.Size]byte
	pid int // it ends with this process; 0: with the next one of its holder
}

// mostTokens bounds those of processes that the host did not start itself.
const mostTokens = 1024

// ErrTokens is why there is no other token.
var ErrTokens = errors.New("too many processes have a token already")

// Issue makes a token for a holder, in place of the one that it had.
func (t *Tokens) Issue(holder string) string {
	text := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(holder, token{sum: sha256.Sum256([]byte(text))})
	return text
}

// IssueTo makes one that ends with a process.
func (t *Tokens) IssueTo(holder string, pid int) (string, error) {
	text := rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for name, o := range t.holders {
		switch {
		case o.pid == 0:
		case alive(o.pid):
			n++
		default:
			delete(t.holders, name)
		}
	}
	if n >= mostTokens {
		return "", ErrTokens
	}
	t.put(holder, token{sum: sha256.Sum256([]byte(text)), pid: pid})
	return text, nil
}

func (t *Tokens) put(holder string, o token) {
	if t.holders == nil {
		t.holders = map[string]token{}
	}
	t.holders[holder] = o
}

// Revoke takes the tokens of those holders away that do not end with a process, but for
// those to keep.
func (t *Tokens) Revoke(keep func(holder string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, o := range t.holders {
		if o.pid == 0 && !keep(name) {
			delete(t.holders, name)
		}
	}
}

// holder tells whose token this is. It looks at all of them whatever it finds, so that
// the time that it takes says nothing.
func (t *Tokens) holder(text string) (name string, ok bool) {
	sum := sha256.Sum256([]byte(text))
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, o := range t.holders {
		if subtle.ConstantTimeCompare(sum[:], o.sum[:]) == 1 && (o.pid == 0 || alive(o.pid)) {
			name, ok = n, true
		}
	}
	return name, ok
}

// alive reports whether there is such a process.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// bearer is the token that came with a request.
func bearer(q *http.Request) string {
	scheme, text, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(text)
}
