package upstream

import (
	"bufio"
	"net"
	"net/http"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// switched does to the head of a 101, which goes past them, what the steps in front would
// have done to it.
func switched(header http.Header, x *exchange.Exchange) {
	var fields []exchange.Field
	for name, values := range header {
		if handshake(name) {
			continue
		}
		for _, value := range values {
			fields = append(fields, exchange.Field{Name: []byte(name), Value: []byte(value)})
		}
		header.Del(name)
	}
	for _, f := range exchange.Switched(x.Answer, fields) {
		if !handshake(string(f.Name)) {
			header.Add(string(f.Name), string(f.Value))
		}
	}
}

// handshake says whether a field belongs to client and upstream alone.
func handshake(name string) bool {
	name = strings.ToLower(name)
	return name == "upgrade" || name == "connection" || strings.HasPrefix(name, "sec-websocket-")
}

// tunnelWriter hands out connections that begin with what the client has sent behind
// its upgrade: httputil.ReverseProxy reads the connection alone and would lose it.
type tunnelWriter struct{ http.ResponseWriter }

// Unwrap is what http.ResponseController calls.
func (w tunnelWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack is the writer's own, with the buffered bytes back in the connection.
func (w tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if rw.Reader.Buffered() == 0 {
		return conn, rw, nil
	}
	return &earlyConn{Conn: conn, early: rw.Reader}, rw, nil
}

// earlyConn gives the buffered bytes first.
type earlyConn struct {
	net.Conn
	early *bufio.Reader
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if n := c.early.Buffered(); n > 0 {
		return c.early.Read(p[:min(n, len(p))])
	}
	return c.Conn.Read(p)
}

// CloseWrite passes the upstream's end on where the connection knows one.
func (c *earlyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
