package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strconv"
	"sync"
	"sync/atomic"
)

// token is what the cookie of a connection says: KEY.VERSION.CONNECTION.SIGNATURE. The
// version grows with each login and logout, so that a cookie of before is not good after.
type token struct {
	connection string
	version    uint32
	old        bool // signed with the key of before: time for another one
}

// purpose keeps a signature from being good for anything else.
const purpose = "guado connection cookie 1\x00"

const (
	macLength  = 43 // base64 of 32 bytes
	mostNumber = 10 // digits
)

// keyring signs with its first key and believes all.
type keyring struct {
	keys   []key
	forged atomic.Uint64
}

// key is one secret. Its id tells who verifies which one to take.
type key struct {
	id     uint32
	secret []byte
	macs   *sync.Pool // of hash.Hash
}

func newKey(id uint32, secret []byte) key {
	return key{id: id, secret: secret, macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

// mac appends the signature of body to dst.
func (k *key) mac(dst, body []byte) []byte {
	h := k.macs.Get().(hash.Hash)
	h.Reset()
	h.Write([]byte(purpose)) // a hash never fails
	h.Write(body)
	var sum [sha256.Size]byte
	dst = base64.RawURLEncoding.AppendEncode(dst, h.Sum(sum[:0]))
	k.macs.Put(h)
	return dst
}

// sign makes the token of a connection.
func (r *keyring) sign(connection string, version uint32) []byte {
	k := &r.keys[0]
	b := make([]byte, 0, 2*mostNumber+idLength+macLength+3)
	b = append(strconv.AppendUint(b, uint64(k.id), 10), '.')
	b = append(strconv.AppendUint(b, uint64(version), 10), '.')
	b = append(b, connection...)
	n := len(b)
	return k.mac(append(b, '.'), b[:n])
}

// verify reads a token that one of our keys has signed.
func (r *keyring) verify(b []byte) (t token, ok bool) {
	n := len(b) - macLength - 1
	if n < idLength+4 || n > idLength+2*mostNumber+2 || b[n] != '.' || b[n-idLength-1] != '.' {
		return t, false
	}
	number, rest, ok := parseNumber(b[:n-idLength])
	if !ok {
		return t, false
	}
	if t.version, rest, ok = parseNumber(rest); !ok || len(rest) != 0 {
		return t, false
	}
	for i := range r.keys {
		k := &r.keys[i]
		if k.id != number {
			continue
		}
		var room [macLength]byte
		if subtle.ConstantTimeCompare(k.mac(room[:0], b[:n]), b[n+1:]) != 1 {
			break
		}
		t.connection, t.old = string(b[n-idLength:n]), i > 0
		return t, true
	}
	r.forged.Add(1)
	return token{}, false
}

// parseNumber reads digits up to a dot, as sign writes them: no other spelling is good.
func parseNumber(b []byte) (n uint32, rest []byte, ok bool) {
	for i, c := range b {
		if c == '.' {
			v, err := strconv.ParseUint(string(b[:i]), 10, 32)
			return uint32(v), b[i+1:], err == nil && (i == 1 || b[0] != '0')
		}
		if c < '0' || c > '9' {
			return 0, nil, false
		}
	}
	return 0, nil, false
}
