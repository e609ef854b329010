package registry_test

import (
	"strconv"
	"testing"

	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/push"
)

// The cost of a look-up among 100,000 items, and of those of one user.
func BenchmarkLookUp(b *testing.B) {
	r := start(b, b.TempDir(), push.Options{NewPages: 1 << 20, UserPages: 1 << 20, Pages: 1 << 20})
	defer r.close()
	const n = 100_000
	users := [...]string{"ann", "bob", "cleo", "dan", "eva", "fay", "gil", "hal", "ida", "jim"}
	var connection, page string
	for i := range n / 10 {
		connection = r.connection(users[i%len(users)] + strconv.Itoa(i%1000))
		for range 10 {
			page = r.page(connection)
		}
	}
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			if _, ok := r.Get(item.Page, page); !ok {
				b.Fatal("not there")
			}
		}
	})
	b.Run("connection", func(b *testing.B) {
		for b.Loop() {
			if _, ok := r.Get(item.Connection, connection); !ok {
				b.Fatal("not there")
			}
		}
	})
	b.Run("touch", func(b *testing.B) {
		for b.Loop() {
			if !r.Touch(item.Page, page) {
				b.Fatal("not there")
			}
		}
	})
}
