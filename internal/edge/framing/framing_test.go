package framing

import (
	"errors"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestOnlyAnswersThatMayHaveABodyCarryOne(t *testing.T) {
	for _, c := range []struct {
		method  string
		status  int
		length  int64
		carries bool
		field   int64 // Content-Length; -1 none
	}{
		{"GET", 200, 5, true, 5},
		{"GET", 200, 0, true, 0},
		{"GET", 200, -1, true, -1},
		{"HEAD", 200, 5, false, 5},
		{"HEAD", 200, -1, false, -1},
		{"HEAD", 204, 5, false, -1},
		{"GET", 204, 5, false, -1},
		{"GET", 205, 5, false, 0},
		{"GET", 304, 5, false, 5},
		{"GET", 304, 0, false, -1},
		{"GET", 103, 5, false, -1},
		{"POST", 500, 3, true, 3},
	} {
		b := Begin(c.method, c.status, c.length)
		n, ok := b.Length()
		if !ok {
			n = -1
		}
		if b.Carries() != c.carries || n != c.field {
			t.Errorf("%s %d length %d: carries %v, Content-Length %d; want %v, %d",
				c.method, c.status, c.length, b.Carries(), n, c.carries, c.field)
		}
		if got := b.Take(3); (got > 0) != c.carries && c.length != 0 {
			t.Errorf("%s %d: %d of 3 body bytes may leave", c.method, c.status, got)
		}
	}
}

func TestBytesBeyondTheDeclaredLengthAreCutAndFewerAreAnError(t *testing.T) {
	b := Begin("GET", 200, 5)
	if got := b.Take(3); got != 3 {
		t.Fatalf("first 3 bytes: %d may leave", got)
	}
	if err := b.Finish(); !errors.Is(err, ErrShort) {
		t.Fatalf("3 of 5 bytes: %v", err)
	}
	if got := b.Take(4); got != 2 {
		t.Fatalf("next 4 bytes: %d may leave, want 2", got)
	}
	if b.Cut() != 2 || b.Sent() != 5 || b.Finish() != nil {
		t.Fatalf("cut %d, sent %d, finish %v", b.Cut(), b.Sent(), b.Finish())
	}
}

func TestAHeadThatWouldBreakOutOfItsLineIsRefused(t *testing.T) {
	field := func(n, v string) []exchange.Field { return []exchange.Field{{Name: []byte(n), Value: []byte(v)}} }
	for name, h := range map[string]exchange.Head{
		"line break in a value":    {Status: 200, Fields: field("X", "a\r\nSet-Cookie: b")},
		"NUL in a value":           {Status: 200, Fields: field("X", "abcdefg\x00hijk")},
		"DEL in a value":           {Status: 200, Fields: field("X", "abcdefghijk\x7f")},
		"space in a name":          {Status: 200, Fields: field("X Y", "a")},
		"empty name":               {Status: 200, Fields: field("", "a")},
		"colon in a name":          {Status: 200, Fields: field("X:", "a")},
		"line break in the reason": {Status: 200, Reason: "OK\r\nX: y"},
		"informational status":     {Status: 100},
		"status of four digits":    {Status: 1000},
		"negative length":          {Status: 200, Length: -2},
	} {
		if CheckHead(&h) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good := exchange.Head{Status: 299, Reason: "Gut \xfc", Length: -1, Fields: field("X-a_b.c", "tab\tand \xff bytes, spaces")}
	if err := CheckHead(&good); err != nil {
		t.Errorf("a good head: %v", err)
	}
}

func TestValuesAreCheckedAtEveryOffset(t *testing.T) {
	for size := 1; size < 30; size++ {
		for at := range size {
			for c := range 256 {
				b := make([]byte, size)
				for i := range b {
					b[i] = "a\t\xff~ "[i%5]
				}
				b[at] = byte(c)
				want := c >= ' ' && c != 0x7f || c == '\t'
				if ValidValue(b) != want {
					t.Fatalf("byte %#x at %d of %d: valid is %v", c, at, size, !want)
				}
			}
		}
	}
}

func TestFieldsOfAConnectionAndForbiddenTrailersAreKnownInAnyCase(t *testing.T) {
	for _, n := range []string{"Connection", "KEEP-ALIVE", "te", "Upgrade", "transfer-Encoding", "Proxy-Connection"} {
		if !PerConnection([]byte(n)) || !Framed([]byte(n)) || TrailerAllowed([]byte(n)) {
			t.Errorf("%s is not taken for a field of the connection", n)
		}
	}
	for _, n := range []string{"Content-Length", "Host", "Set-Cookie", "X-Forwarded-For", "Guado-Page", "Authorization"} {
		if TrailerAllowed([]byte(n)) {
			t.Errorf("%s may stand in a trailer", n)
		}
	}
	for _, n := range []string{"Digest", "Server-Timing", "Grpc-Status"} {
		if !TrailerAllowed([]byte(n)) || Framed([]byte(n)) {
			t.Errorf("%s may not stand in a trailer", n)
		}
	}
}
