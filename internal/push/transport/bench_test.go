package transport_test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws/wsutil"

	"github.com/guado-server/guado/internal/push"
)

// BenchmarkBroadcast tells how long it takes until the last of 2,000 clients has a message
// of 100 bytes. The clients are in the same process and take most of the time.
func BenchmarkBroadcast(b *testing.B) {
	const n = 2000
	r := start(b, push.Options{})
	got := make(chan struct{}, n)
	var all sync.WaitGroup
	conns := make([]net.Conn, 0, n)
	for i := range n {
		page := fmt.Sprint("p", i)
		r.open(page, push.Owner{})
		c := r.direct()
		if err := wsutil.WriteClientText(c, []byte(hello(page, ""))); err != nil {
			b.Fatal(err)
		}
		if p, err := wsutil.ReadServerText(c); err != nil || !strings.Contains(string(p), "hello") {
			b.Fatalf("%s, %v", p, err)
		}
		conns = append(conns, c)
		all.Go(func() {
			for {
				if _, err := wsutil.ReadServerText(c); err != nil {
					return
				}
				got <- struct{}{}
			}
		})
	}
	runtime.GC()
	p, err := r.hub().NewMessage([]byte(`"`+strings.Repeat("x", 98)+`"`), false)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		push.Push(p, r.hub().Sessions())
		for range n {
			<-got
		}
	}
	b.StopTimer()
	for _, c := range conns {
		_ = c.Close()
	}
	all.Wait()
}
