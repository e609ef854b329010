package http1

import (
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// everywhere runs a test over each kind of connection.
func everywhere(t *testing.T, f func(t *testing.T, o option)) {
	for name, o := range map[string]option{"tcp": limited(func(*lane.Limits) {}), "unix": overUnix, "tls": overTLS} {
		t.Run(name, func(t *testing.T) { f(t, o) })
	}
}

// everywhereAtOnce does the same in parallel, for tests that wait.
func everywhereAtOnce(t *testing.T, f func(t *testing.T, o option)) {
	everywhere(t, func(t *testing.T, o option) {
		t.Parallel()
		f(t, o)
	})
}

func TestAConnectionServesOneRequestAfterTheOther(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, echo, o)
		c := r.dial()
		for range 5 {
			c.send("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n").expect(200, "GET /a?b ")
			c.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").expect(200, "POST /p hello")
			c.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n").expect(200, "POST /c hello")
		}
		c.send("GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect(200, "GET /last ")
		c.closed()
		for range 16 {
			if rep := r.done(); rep.Status != 200 || rep.Err != nil {
				t.Fatalf("reported as %+v", rep)
			}
		}
	})
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, echo, o)
		c := r.dial()
		c.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" +
			"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" +
			"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" +
			"GET /4 HTTP/1.1\r\nHo")
		c.expect(200, "GET /1 ")
		c.expect(200, "POST /2 abc")
		c.expect(200, "POST /3 x")
		c.send("st: x\r\nConnection: close\r\n\r\n").expect(200, "GET /4 ")
		c.closed()
	})
}

func TestAHandlerThatDoesNotAnswerIsAnsweredForWith500(t *testing.T) {
	r := serve(t, func(x *exchange.Exchange) {
		if string(x.Target) == "/panic" {
			panic("on purpose")
		}
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect(500, "no_answer")
	c.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").expect(500, "internal_error")
}
