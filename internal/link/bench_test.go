package link_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// BenchmarkRoundTrip is a request of 500 bytes and an answer of 200 over a worker
// process, with as many exchanges at once as its name says.
func BenchmarkRoundTrip(b *testing.B) {
	for _, transport := range transports() {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", transport, clients), func(b *testing.B) {
				l, _ := process(b, link.Options{Transport: transport}, "hello")
				roundTrips(b, l, clients)
			})
		}
	}
}

func roundTrips(b *testing.B, l *link.Link, clients int) {
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for i := range clients {
		n := b.N / clients
		if i < b.N%clients {
			n++
		}
		all.Go(func() { loop(b, l, n) })
	}
	all.Wait()
}

func loop(b *testing.B, l *link.Link, n int) {
	x := request("GET", "/hello/world")
	for _, f := range [][2]string{
		{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
		{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		{"Accept-Language", "en-US,en;q=0.5"}, {"Cookie", "sessionid=0123456789abcdef0123456789abcdef"},
	} {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte(f[0]), Value: []byte(f[1])})
	}
	var payload []byte
	var frames []link.Frame
	var fields []exchange.Field
	for range n {
		s, err := l.Open(x)
		if err != nil {
			b.Error(err)
			return
		}
		payload = link.AppendRequest(payload[:0], x, 0, true)
		if err := s.Request(payload, true); err != nil {
			b.Error(err)
			return
		}
		for frames = s.Take(frames[:0]); len(frames) == 0; frames = s.Take(frames) {
			if err := s.Err(); err != nil {
				b.Error(err)
				return
			}
			x.Wait()
		}
		h, body, err := link.DecodeHead(frames[0].Payload, fields)
		if err != nil || len(body) != 100 {
			b.Errorf("answer of %d bytes: %v", len(body), err)
			return
		}
		fields = h.Fields
		s.Close()
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	x := request("GET", "/hello/world")
	for i := range 12 {
		x.Fields = append(x.Fields, exchange.Field{Name: fmt.Appendf(nil, "X-Some-Field-%d", i), Value: []byte("some value of a field")})
	}
	var payload []byte
	b.ReportAllocs()
	for b.Loop() {
		payload = link.AppendRequest(payload[:0], x, 0, true)
	}
	b.SetBytes(int64(len(payload)))
}
