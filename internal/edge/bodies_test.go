package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestARequestIsEchoedWithItsBody(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			body, err := io.ReadAll(x.Body)
			if err != nil {
				x.Fail(&exchange.Problem{Status: 400, Code: "read", Err: err})
				return
			}
			text(x, 200, fmt.Sprintf("%s %s %s?%s %s %d %s", x.Method, x.Scheme, x.Path, x.Query, x.Host, x.Length, body))
		})
		large := strings.Repeat("0123456789", 50_000)
		for _, body := range []string{"", "hello", large} {
			resp, got := r.do(r.request("POST", "/a%20b?c=%20", strings.NewReader(body)))
			scheme := map[bool]string{true: "https", false: "http"}[m.tls]
			want := fmt.Sprintf("POST %s /a b?c=%%20 %s %d %s", scheme, r.addr, len(body), body)
			if resp.StatusCode != 200 || got != want {
				t.Errorf("status %d, body %.80q…, want %.80q…", resp.StatusCode, got, want)
			}
		}
		// Of unknown length.
		resp, got := r.do(r.request("POST", "/", io.MultiReader(strings.NewReader("in "), strings.NewReader("pieces"))))
		if resp.StatusCode != 200 || !strings.HasSuffix(got, " -1 in pieces") {
			t.Errorf("status %d, body %q", resp.StatusCode, got)
		}
	})
}

func TestBodyAndAnswerStreamAtTheSameTime(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			if err := x.Answer.Head(exchange.Head{Status: 200, Length: -1}); err != nil {
				t.Error(err)
			}
			buf := make([]byte, 16)
			for {
				n, err := x.Body.Read(buf)
				if n > 0 {
					if _, err := x.Answer.Write(buf[:n]); err != nil {
						t.Error(err)
					}
					if err := x.Answer.Flush(); err != nil {
						t.Error(err)
					}
				}
				if err != nil {
					return
				}
			}
		})
		pr, pw := io.Pipe()
		req := r.request("POST", "/", pr)
		go func() { _, _ = pw.Write([]byte("first")) }()
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end
		for _, s := range []string{"first", "second", "third"} {
			if s != "first" {
				if _, err := pw.Write([]byte(s)); err != nil {
					t.Fatal(err)
				}
			}
			buf := make([]byte, len(s))
			if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != s {
				t.Fatalf("read %q, %v, want %q", buf, err, s)
			}
		}
		_ = pw.Close()
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
	})
}

func TestRequestTrailersAreThereAfterTheBody(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			if _, err := io.ReadAll(x.Body); err != nil {
				t.Error(err)
			}
			got := ""
			for _, f := range x.Body.Trailers() {
				got += strings.ToLower(string(f.Name)) + "=" + string(f.Value)
			}
			text(x, 200, got)
		})
		req := r.request("POST", "/", io.MultiReader(strings.NewReader("x")))
		req.Trailer = http.Header{"X-Sum": {"42"}}
		if _, body := r.do(req); body != "x-sum=42" {
			t.Errorf("trailers %q", body)
		}
	})
}

func TestExpectIsAnsweredByTheFirstRead(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		entered, read := make(chan struct{}), make(chan struct{})
		r := serve(t, m, func(x *exchange.Exchange) {
			close(entered)
			<-read
			body, err := io.ReadAll(x.Body)
			if err != nil {
				t.Error(err)
			}
			text(x, 200, string(body))
		})
		continued := make(chan struct{})
		req := r.request("POST", "/", strings.NewReader("waited"), "Expect: 100-continue")
		req = req.WithContext(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			Got100Continue: func() { close(continued) },
		}))
		r.client.Transport.(*http.Transport).ExpectContinueTimeout = patience
		go func() {
			<-entered
			select {
			case <-continued:
				t.Error("100 came before the first read")
			default:
			}
			close(read)
			<-continued
		}()
		if _, body := r.do(req); body != "waited" {
			t.Errorf("body %q", body)
		}
	})
}

func TestABodyThatIsCutIsNotMistakenForComplete(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		entered, result := make(chan struct{}), make(chan error, 1)
		r := serve(t, m, func(x *exchange.Exchange) {
			close(entered)
			_, err := io.ReadAll(x.Body)
			result <- err
			text(x, 200, "")
		})
		pr, pw := io.Pipe()
		go func() {
			_, _ = pw.Write(bytes.Repeat([]byte("x"), 1000))
			<-entered
			_ = pw.CloseWithError(errors.New("the client fails")) // it cuts the connection or stream
		}()
		if _, err := r.client.Do(r.request("POST", "/", pr)); err == nil {
			t.Error("the client did not fail")
		}
		if err := <-result; err == nil {
			t.Error("a cut body ended like a complete one")
		}
	})
}

func TestAReadOfTheBodyCanBeInterrupted(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			result, reading := make(chan error, 1), make(chan struct{})
			go func() {
				buf := make([]byte, 10)
				_, _ = io.ReadFull(x.Body, buf[:5])
				close(reading)
				_, err := x.Body.Read(buf)
				result <- err
			}()
			<-reading
			x.Body.Interrupt()
			err := <-result
			if _, again := x.Body.Read(make([]byte, 1)); !errors.Is(again, exchange.ErrInterrupted) {
				t.Errorf("a later read gave %v", again)
			}
			text(x, 200, err.Error())
		})
		pr, pw := io.Pipe()
		go func() { _, _ = pw.Write([]byte("first")) }()
		_, body := r.do(r.request("POST", "/", pr))
		if body != exchange.ErrInterrupted.Error() {
			t.Errorf("the read gave %q", body)
		}
		_ = pw.Close()
	})
}

func TestABodyOverTheLimitIs413(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			_, err := io.ReadAll(x.Body)
			if !errors.Is(err, exchange.ErrBodyTooLarge) {
				t.Errorf("read gave %v, want ErrBodyTooLarge", err)
			}
			x.Fail(&exchange.Problem{Status: 413, Code: "body_too_large", Err: err})
		}, func(o *Options) { o.Limits.BodyBytes = 1000 })
		body := strings.Repeat("x", 1001)
		if resp, page := r.do(r.request("POST", "/", strings.NewReader(body))); resp.StatusCode != 413 || !strings.Contains(page, "body_too_large") {
			t.Errorf("declared: status %d, page %q", resp.StatusCode, page)
		}
		if resp, _ := r.do(r.request("POST", "/", io.MultiReader(strings.NewReader(body)))); resp.StatusCode != 413 {
			t.Errorf("not declared: status %d", resp.StatusCode)
		}
	})
}
