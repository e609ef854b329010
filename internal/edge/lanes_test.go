package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// The one test body of both lanes: what a step of the road may rely on.

func TestAnAnswerStreamsWhileTheStepStillWorks(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		next := make(chan string)
		r := serve(t, m, func(x *exchange.Exchange) {
			if err := x.Answer.Head(exchange.Head{Status: 200, Length: -1}); err != nil {
				t.Error(err)
			}
			for {
				if err := x.Answer.Flush(); err != nil {
					t.Error(err)
				}
				s, ok := <-next
				if !ok {
					return
				}
				if _, err := x.Answer.Write([]byte(s)); err != nil {
					t.Error(err)
				}
			}
		})
		resp, err := r.client.Get(r.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end
		buf := make([]byte, 100)
		for _, s := range []string{"one", "two", "three"} {
			next <- s
			n, err := io.ReadFull(resp.Body, buf[:len(s)])
			if err != nil || string(buf[:n]) != s {
				t.Fatalf("read %q, %v, want %q", buf[:n], err, s)
			}
		}
		close(next)
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	})
}

func TestTrailersReachAClientThatTakesThem(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1, Fields: []exchange.Field{field("Trailer", "X-Sum")}})
			_, _ = x.Answer.Write([]byte("body"))
			if err := x.Answer.Trailers([]exchange.Field{field("X-Sum", "42")}); err != nil {
				t.Error(err)
			}
		})
		resp, body := r.get("/", "Te: trailers")
		if body != "body" || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("body %q, trailers %v", body, resp.Trailer)
		}
		resp, body = r.get("/")
		if body != "body" || resp.Trailer.Get("X-Sum") != "" {
			t.Errorf("without TE: body %q, trailers %v", body, resp.Trailer)
		}
	})
}

func TestHEAD204And304CarryNoBody(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			h := exchange.Head{Status: 200, Length: 5}
			switch string(x.Path) {
			case "/204":
				h = exchange.Head{Status: 204}
			case "/304":
				h = exchange.Head{Status: 304, Length: 5}
			case "/unknown":
				h.Length = -1
			}
			_ = x.Answer.Head(h)
			if _, err := x.Answer.Write([]byte("hello")); err != nil {
				t.Error(err)
			}
			if string(x.Path) == "/unknown" {
				if err := x.Answer.Flush(); err != nil {
					t.Error(err)
				}
			}
		})
		for _, c := range []struct {
			method, path string
			status       int
			length       string
		}{
			{"HEAD", "/", 200, "5"}, {"HEAD", "/unknown", 200, ""}, {"GET", "/204", 204, ""}, {"GET", "/304", 304, "5"},
		} {
			resp, body := r.do(r.request(c.method, c.path, nil))
			if c.status == 304 && m.h2 {
				c.length = "" // Go's client takes such an answer for cut
			}
			if resp.StatusCode != c.status || body != "" || resp.Header.Get("Content-Length") != c.length {
				t.Errorf("%s %s: status %d, body %q, Content-Length %q", c.method, c.path, resp.StatusCode, body, resp.Header.Get("Content-Length"))
			}
		}
		// The connection is in order after them.
		if resp, body := r.get("/"); resp.StatusCode != 200 || body != "hello" {
			t.Errorf("afterwards: %d %q", resp.StatusCode, body)
		}
	})
}

func TestInformationalAnswersComeFirst(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			for _, link := range []string{"</a.css>; rel=preload", "</b.css>; rel=preload"} {
				if err := x.Answer.Informational(103, []exchange.Field{field("Link", link)}); err != nil {
					t.Error(err)
				}
			}
			text(x, 200, "done")
		})
		var hints []string
		req := r.request("GET", "/", nil)
		req = req.WithContext(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, " ", strings.Join(h["Link"], "+")))
				return nil
			},
		}))
		resp, body := r.do(req)
		if len(hints) != 2 || hints[0] != "103 </a.css>; rel=preload" || hints[1] != "103 </b.css>; rel=preload" {
			t.Errorf("hints %q", hints)
		}
		if body != "done" || resp.Header.Get("Link") != "" {
			t.Errorf("final answer: %q, Link %q", body, resp.Header.Get("Link"))
		}
	})
}

func TestAnAbortedAnswerNeverLooksComplete(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		cases := map[string]func(x *exchange.Exchange){
			"aborted":   func(x *exchange.Exchange) { x.Answer.Abort(errors.New("cut")) },
			"too short": func(*exchange.Exchange) {},
			"failed":    func(x *exchange.Exchange) { x.Fail(&exchange.Problem{Status: 500, Code: "late"}) },
			"panicked":  func(*exchange.Exchange) { panic("of the step") },
		}
		for name, end := range cases {
			t.Run(name, func(t *testing.T) {
				r := serve(t, m, func(x *exchange.Exchange) {
					length := int64(-1)
					if name == "too short" {
						length = 100
					}
					_ = x.Answer.Head(exchange.Head{Status: 200, Length: length})
					_, _ = x.Answer.Write([]byte("half"))
					_ = x.Answer.Flush()
					end(x)
				})
				resp, err := r.client.Get(r.url("/"))
				if err != nil {
					return // the head did not arrive: also not complete
				}
				defer resp.Body.Close() //nolint:errcheck // the error is the point
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("the answer looks complete: %q", body)
				}
			})
		}
	})
}

func TestAStepThatPanicsOrForgetsItsAnswerGives500(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		for name, h := range map[string]exchange.HandlerFunc{
			"panic":     func(*exchange.Exchange) { panic("secret detail") },
			"no answer": func(*exchange.Exchange) {},
		} {
			t.Run(name, func(t *testing.T) {
				r := serve(t, m, h)
				resp, body := r.get("/")
				if resp.StatusCode != 500 || strings.Contains(body, "secret detail") {
					t.Errorf("status %d, body %q", resp.StatusCode, body)
				}
			})
		}
	})
}

func TestBytesBeyondTheDeclaredLengthAreCut(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: 5})
			_, _ = x.Answer.Write([]byte("hello, and more"))
		})
		resp, body := r.get("/")
		if resp.StatusCode != 200 || body != "hello" {
			t.Errorf("status %d, body %q", resp.StatusCode, body)
		}
		r.logs.Wait(t, patience, "longer than its declared length")
	})
}

func TestHardeningAnAnswerCannotBreakOutOfItsLines(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		heads := map[string]exchange.Head{
			"/value":  {Status: 200, Fields: []exchange.Field{field("X-A", "b\r\nSet-Cookie: evil=1")}},
			"/lf":     {Status: 200, Fields: []exchange.Field{field("X-A", "b\nc")}},
			"/nul":    {Status: 200, Fields: []exchange.Field{field("X-A", "b\x00")}},
			"/name":   {Status: 200, Fields: []exchange.Field{field("X A", "b")}},
			"/colon":  {Status: 200, Fields: []exchange.Field{field("X:A", "b")}},
			"/empty":  {Status: 200, Fields: []exchange.Field{field("", "b")}},
			"/reason": {Status: 200, Reason: "OK\r\nSet-Cookie: evil=1"},
			"/status": {Status: 99},
			"/1xx":    {Status: 101},
		}
		r := serve(t, m, func(x *exchange.Exchange) {
			err := x.Answer.Head(heads[string(x.Path)])
			if err == nil || x.Answer.Begun() {
				t.Errorf("%s was accepted", x.Path)
				return
			}
			x.Fail(&exchange.Problem{Status: 500, Code: "bad_answer", Err: err})
		})
		for path := range heads {
			resp, body := r.get(path)
			if resp.StatusCode != 500 || !strings.Contains(body, "bad_answer") || resp.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s: status %d, %q, %v", path, resp.StatusCode, body, resp.Header)
			}
		}
	})
}

func TestOnlyRequestsAreUnderWayAndNotIdleConnections(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		var s atomic.Pointer[Server]
		seen := make(chan int, 1)
		r := serve(t, m, func(x *exchange.Exchange) {
			seen <- s.Load().UnderWay()
			text(x, 200, "")
		})
		s.Store(r.Server)
		r.get("/")
		if n := <-seen; n != 1 {
			t.Errorf("%d requests while one is answered", n)
		}
		eventually(t, "none is under way", func() bool { return r.UnderWay() == 0 })
		if n := r.Connections(); n != 1 {
			t.Errorf("%d connections: the test does not test it", n)
		}
	})
}

func TestAnAnswerMayAskForTheEndOfItsConnection(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		peers := make(chan string, 2)
		r := serve(t, m, func(x *exchange.Exchange) {
			peers <- x.Client.String()
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: 4, Fields: []exchange.Field{field("connection", "close")}})
			_, _ = x.Answer.Write([]byte("body"))
		})
		for range 2 {
			if resp, body := r.get("/"); resp.Close == m.h2 || body != "body" {
				t.Errorf("closes: %v, body %q", resp.Close, body)
			}
		}
		if first, second := <-peers, <-peers; (first == second) != m.h2 {
			t.Errorf("connections from %s and %s", first, second)
		}
	})
}

func TestHardeningHopByHopFieldsOfAnswersAreDropped(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			fields := []exchange.Field{
				field("Connection", "X-Gone"), field("Keep-Alive", "timeout=5"), field("Transfer-Encoding", "gzip"), field("Upgrade", "x"),
				field("Proxy-Connection", "x"), field("Content-Length", "999"), field("Set-Cookie", "a=1"), field("Set-Cookie", "b=2"), field("X-Kept", "1"),
			}
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: 4, Fields: fields})
			_, _ = x.Answer.Write([]byte("body"))
		})
		resp, body := r.get("/")
		if resp.ContentLength != 4 || body != "body" || resp.Header.Get("X-Kept") != "1" {
			t.Errorf("length %d, body %q, fields %v", resp.ContentLength, body, resp.Header)
		}
		for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "Server"} {
			if v := resp.Header.Get(name); v != "" {
				t.Errorf("%s: %s got through", name, v)
			}
		}
		if cookies := resp.Header["Set-Cookie"]; len(cookies) != 2 || cookies[0] != "a=1" || cookies[1] != "b=2" {
			t.Errorf("cookies %q", cookies)
		}
	})
}

func TestTheStepLearnsThatTheClientLeft(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		entered, left, wrote := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		r := serve(t, m, func(x *exchange.Exchange) {
			close(entered)
			for x.Gone() == exchange.Present {
				x.Wait()
			}
			close(left)
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1})
			for {
				if _, err := x.Answer.Write(make([]byte, 64<<10)); err != nil {
					wrote <- err
					return
				}
			}
		})
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-entered
			cancel()
		}()
		if _, err := r.client.Do(r.request("GET", "/", nil).WithContext(ctx)); err == nil {
			t.Fatal("the cancelled request was answered")
		}
		<-left
		if err := <-wrote; !errors.Is(err, exchange.ErrClientGone) {
			t.Errorf("writing gave %v, want ErrClientGone", err)
		}
	})
}

func TestHeadLimitsAreKept(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) {
			o.Limits = lane.Limits{HeadBytes: 4 << 10, TargetBytes: 1 << 10, Fields: 20}
		})
		many := make([]string, 30)
		for i := range many {
			many[i] = fmt.Sprintf("X-Many-%d: 1", i)
		}
		for name, c := range map[string]struct {
			path   string
			fields []string
			status int
			code   string
		}{
			"head":   {"/", []string{"X-Large: " + strings.Repeat("x", 5000)}, 431, "head_too_large"},
			"fields": {"/", many, 431, "too_many_fields"},
			"target": {"/" + strings.Repeat("x", 2000), nil, 414, "uri_too_long"},
		} {
			resp, page := r.get(c.path, c.fields...)
			if resp.StatusCode != c.status || !strings.Contains(page, c.code) {
				t.Errorf("%s: status %d, page %q", name, resp.StatusCode, page)
			}
		}
	})
}

func TestAFileIsSentFromItsOffset(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		content := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // only read
		const offset, count = 1000, 300_000
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: count + 10})
			_, _ = x.Answer.Write([]byte("begin"))
			if err := x.Answer.File(f, offset, count); err != nil {
				t.Error(err)
			}
			_, _ = x.Answer.Write([]byte("ended"))
		})
		want := "begin" + string(content[offset:offset+count]) + "ended"
		done := make(chan struct{})
		for range 2 { // one file, two answers at once: each has its own offset
			go func() {
				defer func() { done <- struct{}{} }()
				if _, body := r.get("/"); body != want {
					t.Errorf("got %d bytes, want %d", len(body), len(want))
				}
			}()
		}
		<-done
		<-done
	})
}
