package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

const (
	leanRequest = "GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
	fullRequest = "GET /hello?name=world HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,it;q=0.8\r\n" +
		"Cache-Control: no-cache\r\nConnection: keep-alive\r\nCookie: sessionid=0123456789abcdef0123456789abcdef; csrftoken=abcdefghijklmnop\r\n" +
		"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nUpgrade-Insecure-Requests: 1\r\n\r\n"
)

var (
	helloBody   = []byte("Hello, world!\n")
	helloFields = []exchange.Field{{Name: []byte("Content-Type"), Value: []byte("text/plain; charset=utf-8")}}
)

func hello(x *exchange.Exchange) {
	if x.Answer.Head(exchange.Head{Status: 200, Fields: helloFields, Length: int64(len(helloBody))}) == nil {
		_, _ = x.Answer.Write(helloBody)
	}
}

// BenchmarkHello sends one request after the other over one connection and reads the
// answers by hand, so that the client costs the same for both servers.
func BenchmarkHello(b *testing.B) {
	for _, request := range []struct{ name, text string }{{"lean", leanRequest}, {"browser", fullRequest}} {
		b.Run(request.name+"/guado", func(b *testing.B) {
			r := serve(b, hello)
			r.reports = nil
			pingPong(b, r.addr, request.text)
		})
		b.Run(request.name+"/nethttp", func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
				_, _ = w.Write(helloBody)
			})}
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(l) }()
			pingPong(b, l.Addr(), request.text)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			<-ended
		})
	}
}

func pingPong(b *testing.B, addr net.Addr, request string) {
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ask := []byte(request)
	r := bufio.NewReader(c)
	// The first answer tells how long they all are.
	if _, err := c.Write(ask); err != nil {
		b.Fatal(err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Write(ask); err != nil {
		b.Fatal(err)
	}
	answer := make([]byte, 4096)
	size, err := c.Read(answer)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(ask); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer[:size]); err != nil {
			b.Fatal(err)
		}
	}
}
