package ratelimit

import (
	"net/netip"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/address"
)

// limiter is one with a clock that the test sets.
type limiter struct {
	*Handler
	now time.Time
}

func newLimiter(o Options) *limiter { return &limiter{New(nil, o), time.Unix(1e9, 0)} }

func (l *limiter) take(home netip.Addr) time.Duration { return l.Handler.take(home, l.now) }

func TestTokensComeBackWithTimeAndARefusalCostsNone(t *testing.T) {
	h := newLimiter(Options{Requests: 60, Period: time.Minute, Burst: 2})
	a := netip.MustParseAddr("192.0.2.1")
	for i, want := range []time.Duration{0, 0, time.Second, time.Second} {
		if got := h.take(a); got != want {
			t.Errorf("request %d must wait for %v, want %v", i+1, got, want)
		}
	}
	h.now = h.now.Add(250 * time.Millisecond)
	if got := h.take(a); got != 750*time.Millisecond {
		t.Errorf("a quarter of a second later: %v", got)
	}
	h.now = h.now.Add(750 * time.Millisecond)
	if got := h.take(a); got != 0 {
		t.Errorf("a second later: %v", got)
	}
	h.now = h.now.Add(time.Hour)
	for range 2 {
		if got := h.take(a); got != 0 {
			t.Errorf("an hour later: %v", got)
		}
	}
	if h.take(a) == 0 {
		t.Error("an hour saves up more than the burst")
	}
}

func TestTheTableIsBoundedAndForgetsWhoWasSeenLeastRecently(t *testing.T) {
	h := newLimiter(Options{Requests: 1, Period: time.Hour})
	h.size = 3
	at := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
	for n := range byte(3) {
		h.take(at(n))
	}
	if h.take(at(0)) == 0 { // seen again
		t.Error("the first is not limited")
	}
	h.take(at(3)) // takes the place of 1
	if len(h.clients) != 3 || h.recent.Len() != 3 {
		t.Errorf("%d clients, %d in the list", len(h.clients), h.recent.Len())
	}
	if h.take(at(0)) == 0 {
		t.Error("one that keeps coming was forgotten")
	}
	if h.take(at(1)) != 0 {
		t.Error("the one that was seen least recently is remembered")
	}
}

func TestAClientHasAllOfItsIPv6Network(t *testing.T) {
	home := func(s string) netip.Addr { return address.Home(netip.MustParseAddr(s)) }
	if home("2001:db8::1") != home("2001:db8::ffff:1") || home("2001:db8::1") == home("2001:db8:0:1::1") {
		t.Error("not a /64")
	}
	if home("192.0.2.1") == home("192.0.2.2") {
		t.Error("IPv4 addresses are clients of their own")
	}
}

func BenchmarkARequestOfOneOfManyClients(b *testing.B) {
	h := newLimiter(Options{Requests: 1 << 30, Period: time.Second})
	var n uint32
	for b.Loop() {
		n++
		h.take(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
	}
}
