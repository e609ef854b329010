package edge

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// other gives the options of a running edge, changed.
func (r *running) other(change func(*Options)) Options {
	o := r.now.Load().options
	change(&o)
	return o
}

func (r *running) apply(change func(*Options)) {
	r.t.Helper()
	c, err := r.Prepare(r.other(change))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Apply(); err != nil {
		r.t.Fatal(err)
	}
}

func TestOtherOptionsHoldForTheNextRequestOfAnOpenConnection(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "first") })
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	ask := func() (int, string) {
		t.Helper()
		if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close() //nolint:errcheck // it is read
		var body strings.Builder
		if _, err := bufio.NewReader(res.Body).WriteTo(&body); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, body.String()
	}
	if status, body := ask(); status != 200 || body != "first" {
		t.Fatalf("%d %s", status, body)
	}
	r.apply(func(o *Options) {
		o.Handler = exchange.HandlerFunc(func(x *exchange.Exchange) { text(x, 200, "second") })
		o.Limits.HeadBytes = 64 << 10
	})
	if status, body := ask(); status != 200 || body != "second" {
		t.Errorf("another handler: %d %s", status, body)
	}
	r.apply(func(o *Options) { o.AllowHosts = []string{"else.where"} })
	if status, _ := ask(); status != 421 {
		t.Errorf("other hosts: %d", status)
	}
	if n := r.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestOtherCapsHoldAtOnce(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "ok") }, func(o *Options) { o.MaxConns = 1 })
	ask := func(c net.Conn) {
		if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(c net.Conn) bool {
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && strings.Contains(line, " 200 ")
	}
	first, second := r.dial(), r.dial()
	ask(first)
	if !answered(first) {
		t.Fatal("no answer")
	}
	ask(second) // it waits: the first stays open
	if n := r.Accepted(); n != 1 {
		t.Errorf("%d connections were let in", n)
	}
	r.apply(func(o *Options) { o.MaxConns = 5 })
	if !answered(second) {
		t.Error("the one that waited was not let in")
	}
	r.apply(func(o *Options) { o.MaxConnsPerAddr = 2 })
	if third := r.dial(); answered(third) {
		t.Error("the address has three connections")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; {
		c := r.dial()
		_, _ = fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // it may have been closed
		if answered(c) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("a place that was given back is not given on")
		}
	}
}

func TestOptionsThatAreWrongChangeNothing(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "fine") })
	for name, change := range map[string]func(*Options){
		"a host":        func(o *Options) { o.AllowHosts = []string{"not a host"} },
		"an access log": func(o *Options) { o.AccessLog = &AccessLog{Path: filepath.Join(t.TempDir(), "none", "log")} },
		"a certificate": func(o *Options) { o.TLS = &TLSConfig{CertFile: "/none", KeyFile: "/none"} },
	} {
		if _, err := r.Prepare(r.other(change)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	c, err := r.Prepare(r.other(func(o *Options) {
		o.Limits.Fields, o.AccessLog = 7, &AccessLog{Path: filepath.Join(t.TempDir(), "log")}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Discard(); err != nil {
		t.Error(err)
	}
	res, err := r.client.Get("http://" + r.addr)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("%v %v", res, err)
	}
}

func TestNoLineIsLostWhenTheAccessLogMoves(t *testing.T) {
	dir := t.TempDir()
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "x") }, func(o *Options) {
		o.AccessLog = &AccessLog{Path: filepath.Join(dir, "0")}
	})
	const clients, each, moves = 4, 200, 10
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for range each {
				res, err := r.client.Get("http://" + r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close() // it is short
			}
		})
	}
	for i := range moves {
		r.apply(func(o *Options) { o.AccessLog = &AccessLog{Path: filepath.Join(dir, fmt.Sprint(i+1))} })
	}
	wait.Wait()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	lines := 0
	for i := range moves + 1 {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	if lines != clients*each {
		t.Errorf("%d lines of %d requests", lines, clients*each)
	}
}

func TestLanesThatAreDoneWithAreLetGo(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "x") })
	for i := range 20 {
		r.apply(func(o *Options) { o.Limits.Fields = 50 + i })
	}
	if n := len(r.allLanes()); n > kept+1 {
		t.Errorf("%d lanes are kept", n)
	}
}
