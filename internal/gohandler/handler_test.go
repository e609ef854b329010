package gohandler_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/gohandler"
)

func TestAHandlerSeesTheRequestAsNetHTTPWouldGiveIt(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		type seen struct {
			path, raw, query, uri, host, remote, a, method string
			length                                         int64
			body                                           string
			values                                         []string
		}
		got := make(chan seen, 1)
		s := start(t, h2, "/api", func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got <- seen{r.URL.Path, r.URL.EscapedPath(), r.URL.RawQuery, r.RequestURI, r.Host, r.RemoteAddr, r.Header.Get("a-b"), r.Method, r.ContentLength, string(b), r.Header["X-Many"]}
			if gohandler.Exchange(r) == nil {
				t.Error("the request does not lead to its exchange")
			}
		})
		r, err := http.NewRequest("PUT", s.url("/api/x%2Fy/%C3%A4?q=1&r"), strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "shop.example.org"
		r.Header["A-B"], r.Header["X-Many"] = []string{"c"}, []string{"1", "2"}
		res, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		g := <-got
		if g.path != "/x/y/ä" || g.raw != "/x%2Fy/%C3%A4" || g.query != "q=1&r" || g.uri != "/api/x%2Fy/%C3%A4?q=1&r" ||
			g.host != "shop.example.org" || !strings.HasPrefix(g.remote, "127.0.0.1:") || g.a != "c" || g.method != "PUT" ||
			g.length != 4 || g.body != "body" || strings.Join(g.values, ",") != "1,2" {
			t.Errorf("got %+v", g)
		}
	})
}

func TestAShortAnswerLeavesWithItsLengthAndType(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/html":
				_, _ = io.WriteString(w, "<html>")
			case "/empty":
			case "/none":
				w.WriteHeader(http.StatusNoContent)
			case "/long":
				_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
			}
		})
		if res, body := s.get(t, "/html"); body != "<html>" || res.ContentLength != 6 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%q %d %v", body, res.ContentLength, res.Header)
		}
		if res, body := s.get(t, "/empty"); res.StatusCode != 200 || body != "" || res.ContentLength != 0 {
			t.Errorf("%d %q %d", res.StatusCode, body, res.ContentLength)
		}
		if res, body := s.get(t, "/none"); res.StatusCode != 204 || body != "" {
			t.Errorf("%d %q", res.StatusCode, body)
		}
		if _, body := s.get(t, "/long"); len(body) != 100_000 {
			t.Errorf("%d bytes", len(body))
		}
		res, err := s.client.Head(s.url("/html"))
		if err != nil || res.ContentLength != 6 {
			t.Errorf("HEAD: %v %+v", err, res)
		}
	})
}

func TestAnAnswerStreamsWithFlush(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		next := make(chan string)
		s := start(t, h2, "/", func(w http.ResponseWriter, _ *http.Request) {
			for part := range next {
				_, _ = io.WriteString(w, part)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			}
		})
		go func() { next <- "one\n" }()
		res, err := s.client.Get(s.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		in := bufio.NewReader(res.Body)
		if line, err := in.ReadString('\n'); line != "one\n" {
			t.Fatal(line, err)
		}
		next <- "two\n"
		if line, err := in.ReadString('\n'); line != "two\n" {
			t.Fatal(line, err)
		}
		close(next)
		if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
			t.Errorf("%q %v", rest, err)
		}
	})
}

func TestInformationalAnswersAndTrailersPass(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Sum", "42")
			w.Header().Set(http.TrailerPrefix+"X-Late", "43")
		})
		_, in := s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
		if !h2 {
			hint, err := http.ReadResponse(in, nil)
			if err != nil || hint.StatusCode != 103 || hint.Header.Get("Link") == "" {
				t.Fatalf("%v %+v", err, hint)
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			if err != nil || string(b) != "body" || res.Trailer.Get("X-Sum") != "42" || res.Header.Get("Link") != "" {
				t.Errorf("%q %v %v %v", b, err, res.Trailer, res.Header)
			}
			return
		}
		r, err := http.NewRequest("GET", s.url("/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("TE", "trailers")
		res, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || string(b) != "body" || res.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%q %v %v", b, err, res.Trailer)
		}
	})
}

func TestAPanicIs500OrACutAnswerAndIsLoggedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/begun":
				_, _ = io.WriteString(w, "begun")
				_ = http.NewResponseController(w).Flush()
				panic("late trouble")
			case "/quiet":
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "held back, and dropped")
			panic("early trouble")
		})
		res, body := s.get(t, "/")
		if res.StatusCode != 500 || !strings.Contains(body, "application_error") || strings.Contains(body, "trouble") || strings.Contains(body, "dropped") {
			t.Errorf("%d %q", res.StatusCode, body)
		}
		res, err := s.client.Get(s.url("/begun"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("read %q to a clean end", b)
		}
		_ = res.Body.Close()
		if res, err := s.client.Get(s.url("/quiet")); err == nil {
			t.Errorf("an aborted handler answered %d", res.StatusCode)
			_ = res.Body.Close()
		}
		log := s.log.String()
		if strings.Count(log, "early trouble") != 1 || strings.Count(log, "late trouble") != 1 || strings.Contains(log, "abort Handler") {
			t.Errorf("log: %s", log)
		}
		if !strings.Contains(log, "request_id=") || !strings.Contains(log, "app=go") {
			t.Errorf("log: %s", log)
		}
	})
}

func TestTheContextEndsWithTheClientAndWithTheHandler(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		arrived, ended := make(chan context.Context, 2), make(chan error, 1)
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			arrived <- r.Context()
			if r.URL.Path == "/quick" {
				return
			}
			<-r.Context().Done()
			ended <- context.Cause(r.Context())
		})
		s.get(t, "/quick")
		select {
		case <-(<-arrived).Done():
		case <-time.After(patience):
			t.Fatal("the context outlives its request")
		}
		ctx, leave := context.WithCancel(context.Background())
		r, err := http.NewRequestWithContext(ctx, "GET", s.url("/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if h2 {
			go func() { _, _ = s.client.Do(r) }()
			<-arrived
			leave()
		} else {
			defer leave()
			conn, _ := s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			<-arrived
			if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case cause := <-ended:
			if !errors.Is(cause, exchange.ErrClientGone) {
				t.Errorf("%v", cause)
			}
		case <-time.After(patience):
			t.Fatal("the handler is not told that its client has left")
		}
	})
}

func TestAHandlerNeverSeesAnEmptyPath(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		s := start(t, h2, "/go", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.URL.Path+" "+r.URL.EscapedPath()+" "+r.URL.RawQuery)
		})
		for target, want := range map[string]string{
			"/go": "/ / ", "/go?q=%20": "/ / q=%20", "/go/": "/ / ", "/go//": "// // ", "/go//x": "//x //x ", "/go/a%2Fb": "/a/b /a%2Fb ",
			"/%67o": "/ / ", "/%67o/a%2Fb": "/a/b /a%2Fb ", "/g%6f/": "/ / ",
		} {
			if res, got := s.get(t, target); res.StatusCode != 200 || got != want {
				t.Errorf("%s: %d %q, want %q", target, res.StatusCode, got, want)
			}
		}
	})
}

func TestAHandlerLearnsTheRequestIDAndTheTrace(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			x := gohandler.Exchange(r)
			id, trace := r.Header["X-Request-Id"], r.Header["Traceparent"]
			if len(id) != 1 || id[0] == "" || id[0] != x.ID || len(trace) != 1 || len(trace[0]) != 55 || trace[0] != string(x.TraceParent) {
				t.Errorf("id %q, trace %q of %q, %q", id, trace, x.ID, x.TraceParent)
			}
		})
		r, err := http.NewRequest("GET", s.url("/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Request-ID", "of-the-client")
		res, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	})
}

func TestAnUpgradeIsHijackedWithWhatTheClientSentBehindIt(t *testing.T) {
	s := start(t, false, "/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			t.Errorf("%v", r.Header)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if rw.Reader.Buffered() != len("early\n") {
			t.Errorf("%d bytes are said to be buffered", rw.Reader.Buffered())
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("a write after Hijack: %v", err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		go func() { // the handler returns, the connection lives
			defer func() { _ = conn.Close() }()
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "echo "+line)
			}
		}()
	})
	conn, in := s.dial(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\nearly\n")
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(err, res)
	}
	for _, line := range []string{"early\n", "late\n"} {
		if line == "late\n" {
			if _, err := io.WriteString(conn, line); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := in.ReadString('\n'); err != nil || got != "echo "+line {
			t.Fatalf("%q %v", got, err)
		}
	}
}

func TestAHandlerMayEndItsConnection(t *testing.T) {
	s := start(t, false, "/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "X-Private, Close")
		_, _ = fmt.Fprint(w, "ok")
	})
	if res, body := s.get(t, "/"); body != "ok" || !res.Close {
		t.Errorf("%q %v", body, res.Header)
	}
}

func TestFieldsOfTheConnectionAndSplitValuesDoNotPass(t *testing.T) {
	s := start(t, false, "/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("Keep-Alive", "1000")
		w.Header().Set("Transfer-Encoding", "identity")
		w.Header().Set("X-Split", "a\r\nX-Injected: b")
		_, _ = fmt.Fprint(w, "ok")
	})
	res, body := s.get(t, "/")
	if body != "ok" || res.Header.Get("Keep-Alive") == "1000" || res.Header.Get("X-Injected") != "" || res.Header.Get("X-Split") != "a  X-Injected: b" {
		t.Errorf("%q %v", body, res.Header)
	}
}
