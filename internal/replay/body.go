package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/guado-server/guado/internal/exchange"
)

// finger tells whether a request is the same as another one, as far as that was read.
type finger struct {
	Sum  []byte `json:"sum"`
	Read int64  `json:"read"` // bytes of the body
	All  bool   `json:"all"`  // there were no more
}

// body is that of a request, and remembers what was read of it.
type body struct {
	exchange.Body

	mu   sync.Mutex // guards the rest; not held while the client is read
	sum  hash.Hash
	read int64
	most int64 // its length, where that is known
	all  bool
}

func newBody(x *exchange.Exchange) *body {
	b := &body{Body: x.Body, sum: sha256.New(), most: x.Length, all: x.Length == 0}
	for _, part := range [][]byte{x.Query, x.Field("content-type")} {
		b.sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(part))))
		b.sum.Write(part)
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum.Write(p[:n])
	b.read += int64(n)
	b.all = b.all || b.read == b.most || errors.Is(err, io.EOF)
	return n, err
}

func (b *body) finger() finger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return finger{b.sum.Sum(nil), b.read, b.all}
}

// same reads as much of a request as was read of the first one, and compares.
func (f finger) same(x *exchange.Exchange) (bool, *exchange.Problem) {
	b := newBody(x)
	buf := make([]byte, 16<<10)
	for !b.all {
		left := f.Read - b.read
		if left == 0 && !f.All {
			break
		}
		if left == 0 {
			left = 1 // there must be no more
		}
		_, err := b.Read(buf[:min(left, int64(len(buf)))])
		switch {
		case errors.Is(err, io.EOF):
		case errors.Is(err, exchange.ErrBodyTooLarge):
			return false, &exchange.Problem{Status: 413, Code: "body_too_large", Err: err}
		case errors.Is(err, exchange.ErrSlowClient):
			return false, &exchange.Problem{Status: 408, Code: "slow_client", Err: err}
		case err != nil:
			return false, &exchange.Problem{Status: 400, Code: "malformed_body", Err: err}
		case b.read > f.Read:
			return false, nil
		}
	}
	got := b.finger()
	return got.Read == f.Read && string(got.Sum) == string(f.Sum), nil
}
