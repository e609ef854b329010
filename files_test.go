package guado_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

// asksForFiles is a server of an application that sends many files, and a client that
// has asked for them and read nothing yet.
func asksForFiles(t *testing.T, transport string, change func(*guado.Config)) (*stopping, net.Conn) {
	t.Helper()
	s := newStoppingOf(t, transport, "manyfiles", "asgi", func(*guado.App) {}, change)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // only read
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /files HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return s, conn
}

// filesSent is how many files the application has sent.
func (s *stopping) filesSent() int {
	b, err := os.ReadFile(s.events)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.Count(string(b), "sent\n")
}

func TestAnApplicationThatSendsManyFilesWaitsForASlowClient(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		s, conn := asksForFiles(t, transport, func(*guado.Config) {})
		eventually(t, "the credit is used up", func() bool { return s.filesSent() >= 16 })
		s.get("/pid") // beside it
		if n := s.filesSent(); n == 100 {
			t.Errorf("%d files were sent to a client that has read nothing", n)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n != 100<<20 {
			t.Errorf("%d bytes came, %v", n, err)
		}
		eventually(t, "the application is through", func() bool { return s.said("complete") })
	})
}

func TestAnApplicationThatSendsManyFilesHearsOfAClientThatNeverReads(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		s, _ := asksForFiles(t, transport, func(c *guado.Config) {
			c.Server.Timeouts.WriteIdle = guado.Duration(300 * time.Millisecond)
		})
		before := s.get("/pid")
		eventually(t, "send() raises", func() bool { return s.said("ClientDisconnected") })
		if after := s.get("/pid"); after != before {
			t.Errorf("worker %s was replaced by %s", before, after)
		}
	})
}
