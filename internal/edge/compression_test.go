package edge

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/guado-server/guado/internal/edge/compress"
	"github.com/guado-server/guado/internal/exchange"
)

func compressed(o *Options) { o.Compress = compress.Options{Codings: []string{"zstd", "gzip"}} }

// decode undoes the coding of an answer.
func decode(t *testing.T, coding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decoding %s: %v", coding, err)
	}
	return string(plain)
}

var page = strings.Repeat("All work and no play makes Jack a dull boy.\n", 500)

func TestAnswersAreCompressedForClientsThatAcceptIt(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			length := int64(-1)
			if string(x.Path) == "/known" {
				length = int64(len(page))
			}
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: length, Fields: []exchange.Field{
				field("Content-Type", "text/html; charset=utf-8"), field("ETag", `"abc"`), field("Accept-Ranges", "bytes"), field("Vary", "Cookie"),
			}})
			for rest := page; len(rest) > 0; rest = rest[min(1000, len(rest)):] {
				if _, err := x.Answer.Write([]byte(rest[:min(1000, len(rest))])); err != nil {
					t.Error(err)
				}
			}
		}, compressed)
		for accept, coding := range map[string]string{
			"gzip, deflate, br, zstd": "zstd", "gzip": "gzip", "GZIP;q=0.5, zstd;q=0.1": "gzip", "*": "zstd", "": "",
			"zstd;q=0, *": "gzip", "br": "", "gzip;q=0": "", "identity, gzip;q=0.5": "", "gzip;q=x": "",
		} {
			for _, path := range []string{"/known", "/unknown"} {
				resp, body := r.get(path, "Accept-Encoding: "+accept)
				if got := resp.Header.Get("Content-Encoding"); got != coding {
					t.Errorf("%q %s: coding %q, want %q", accept, path, got, coding)
				}
				if decode(t, coding, body) != page {
					t.Errorf("%q %s: another page", accept, path)
				}
				etag, ranges := `"abc"`, "bytes"
				if coding != "" {
					etag, ranges = `W/"abc"`, ""
					if len(body) > len(page)/5 || resp.ContentLength >= 0 && resp.ContentLength != int64(len(body)) {
						t.Errorf("%q %s: %d bytes, Content-Length %d", accept, path, len(body), resp.ContentLength)
					}
				}
				if resp.Header.Get("ETag") != etag || resp.Header.Get("Accept-Ranges") != ranges {
					t.Errorf("%q %s: fields %v", accept, path, resp.Header)
				}
				if vary := strings.Join(resp.Header["Vary"], ", "); vary != "Cookie, Accept-Encoding" {
					t.Errorf("%q %s: Vary %q", accept, path, vary)
				}
			}
		}
	})
}

func TestAnswersThatMustNotBeCompressedAreNot(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		cases := map[string]struct {
			status int
			fields []exchange.Field
			body   string
		}{
			"/events":       {200, []exchange.Field{field("Content-Type", "text/event-stream; charset=utf-8")}, page},
			"/encoded":      {200, []exchange.Field{field("Content-Type", "text/css"), field("Content-Encoding", "br")}, page},
			"/no-transform": {200, []exchange.Field{field("Content-Type", "text/css"), field("Cache-Control", "public, no-transform")}, page},
			"/range":        {206, []exchange.Field{field("Content-Type", "text/css"), field("Content-Range", "bytes 0-9/100")}, page},
			"/image":        {200, []exchange.Field{field("Content-Type", "image/png")}, page},
			"/untyped":      {200, nil, page},
			"/small":        {200, []exchange.Field{field("Content-Type", "text/css")}, "small"},
			"/not-modified": {304, []exchange.Field{field("Content-Type", "text/css"), field("ETag", `"abc"`)}, ""},
		}
		r := serve(t, m, func(x *exchange.Exchange) {
			c := cases[string(x.Path)]
			_ = x.Answer.Head(exchange.Head{Status: c.status, Length: -1, Fields: c.fields})
			_, _ = x.Answer.Write([]byte(c.body))
		}, compressed)
		for path, c := range cases {
			resp, body := r.get(path, "Accept-Encoding: gzip, zstd")
			coding := resp.Header.Get("Content-Encoding")
			if resp.StatusCode != c.status || body != c.body || coding != "" && coding != "br" || strings.HasPrefix(resp.Header.Get("ETag"), "W/") {
				t.Errorf("%s: status %d, %d bytes, fields %v", path, resp.StatusCode, len(body), resp.Header)
			}
		}
		resp, body := r.do(r.request("HEAD", "/small", nil, "Accept-Encoding: gzip"))
		if resp.StatusCode != 200 || body != "" {
			t.Errorf("HEAD: %d %q", resp.StatusCode, body)
		}
	})
}

func TestACompressedStreamCanBeDecodedAtEachFlush(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		next := make(chan struct{})
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1, Fields: []exchange.Field{field("Content-Type", "application/x-ndjson")}})
			for range 3 {
				_, _ = x.Answer.Write([]byte("{\"n\":1}\n"))
				_ = x.Answer.Flush()
				<-next
			}
		}, compressed)
		resp, err := r.client.Do(r.request("GET", "/", nil, "Accept-Encoding: gzip"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 8)
		for range 3 {
			if _, err := io.ReadFull(z, line); err != nil || string(line) != "{\"n\":1}\n" {
				t.Fatalf("%q %v", line, err)
			}
			next <- struct{}{}
		}
		if rest, err := io.ReadAll(z); err != nil || len(rest) > 0 {
			t.Errorf("at the end %q %v", rest, err)
		}
	})
}

func TestAFailureBeforeTheFirstByteIsStillAPage(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1, Fields: []exchange.Field{field("Content-Type", "text/html")}})
			x.Fail(&exchange.Problem{Status: 502, Code: "worker_died"})
		}, compressed)
		if resp, body := r.get("/", "Accept-Encoding: gzip"); resp.StatusCode != 502 || !strings.Contains(body, "worker_died") {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	})
}

func TestACompressedAnswerThatIsAbortedNeverLooksComplete(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1, Fields: []exchange.Field{field("Content-Type", "text/html")}})
			_, _ = x.Answer.Write([]byte(page))
			_ = x.Answer.Flush()
			x.Answer.Abort(errors.New("cut"))
		}, compressed)
		resp, err := r.client.Do(r.request("GET", "/", nil, "Accept-Encoding: gzip"))
		if err != nil {
			return
		}
		defer resp.Body.Close() //nolint:errcheck // the error is the point
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the answer looks complete")
		}
	})
}

func TestFilesAndTrailersAreCompressedTheSame(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("skipped"+page), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // only read
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1, Fields: []exchange.Field{field("Content-Type", "text/css"), field("Trailer", "X-Sum")}})
			if err := x.Answer.File(f, int64(len("skipped")), int64(len(page))); err != nil {
				t.Error(err)
			}
			if err := x.Answer.Trailers([]exchange.Field{field("X-Sum", "1")}); err != nil {
				t.Error(err)
			}
		}, compressed)
		resp, body := r.get("/", "Accept-Encoding: gzip", "Te: trailers")
		if decode(t, resp.Header.Get("Content-Encoding"), body) != page || resp.Trailer.Get("X-Sum") != "1" {
			t.Errorf("coding %q, %d bytes, trailers %v", resp.Header.Get("Content-Encoding"), len(body), resp.Trailer)
		}
	})
}

func TestUpgradesPassByCompression(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) {
		h, ok := x.Answer.(exchange.Hijacker)
		if !ok || x.Upgrade != "websocket" {
			t.Errorf("no hijacker, or upgrade %q", x.Upgrade)
			return
		}
		c, buffered, err := h.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close() //nolint:errcheck // of the test
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_, _ = io.Copy(c, io.MultiReader(bytes.NewReader(buffered), c))
	}, compressed, func(o *Options) { o.ExposeRequestID = true })
	c := r.dial()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAccept-Encoding: gzip\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	want := "HTTP/1.1 101 Switching Protocols\r\n\r\nhello"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("%q %v", got, err)
	}
	_ = c.Close()
}

func TestUnknownCodingsAreRefused(t *testing.T) {
	if _, err := compress.New(compress.Options{Codings: []string{"br"}}, nil); err == nil {
		t.Error("a coding that is not there was accepted")
	}
}
