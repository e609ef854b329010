package identity

import (
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

// quick is an answer that costs nothing.
type quick struct{ exchange.Collected }

func (*quick) Head(exchange.Head) error { return nil }

// asked is a request as a browser sends it, that can be served again and again.
func asked(cookie string) *exchange.Exchange {
	x := exchange.New()
	x.Method, x.Scheme, x.Path, x.Query = "GET", "https", []byte("/shop/list"), []byte("q=tea&sort=price")
	for _, f := range [][2]string{
		{"Accept", "text/html"}, {"User-Agent", strings.Repeat("x", 100)}, {"Accept-Encoding", "gzip, deflate, br, zstd"},
		{"Accept-Language", "en"}, {"Sec-Fetch-Mode", "navigate"}, {"Cookie", cookie}, {"Referer", "https://example.org/"},
	} {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte(f[0]), Value: []byte(f[1])})
	}
	x.Answer = &quick{}
	return x
}

var usual = exchange.Head{Status: 200, Fields: []exchange.Field{
	{Name: []byte("Content-Type"), Value: []byte("text/html; charset=utf-8")}, {Name: []byte("Vary"), Value: []byte("Cookie")},
	{Name: []byte("X-Frame-Options"), Value: []byte("DENY")}, {Name: []byte("Cache-Control"), Value: []byte("no-cache")},
}}

func serves(tb testing.TB, s *Server) exchange.Handler {
	return s.Step(Policy{PageFrom: []string{"header:Guado-Page", "query:page_id", "form:page_id"}}, exchange.HandlerFunc(func(x *exchange.Exchange) {
		if err := x.Answer.Head(usual); err != nil {
			tb.Error(err)
		}
	}))
}

func TestAnExchangeWithoutACookieAllocatesNothing(t *testing.T) {
	step, x := serves(t, open(t, Options{})), asked("sessionid=abcdefghijklmnopqrstuvwxyz; csrftoken=0123456789")
	step.Serve(x) // the memory of the fields grows once
	if n := testing.AllocsPerRun(1000, func() { step.Serve(x) }); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAnExchangeWithoutACookie(b *testing.B) {
	step, x := serves(b, open(b, Options{})), asked("sessionid=abcdefghijklmnopqrstuvwxyz; csrftoken=0123456789")
	b.ReportAllocs()
	for b.Loop() {
		step.Serve(x)
	}
}

func BenchmarkAnExchangeWithACookie(b *testing.B) {
	s := open(b, Options{})
	ann := newBrowser(b, s)
	ann.logsIn("ann")
	step, x := serves(b, s), asked("sessionid=abcdefghijklmnopqrstuvwxyz; __Host-guado="+ann.token())
	b.ReportAllocs()
	for b.Loop() {
		step.Serve(x)
	}
}
