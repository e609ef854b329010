// Package e2e drives bin/guado as a browser would: real frameworks, real sockets,
// every transport and both lanes.
package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// everyMode runs one body over both transports and both lanes.
func everyMode(t *testing.T, target string, body func(t *testing.T, s *harness.Server, c *http.Client)) {
	t.Helper()
	for _, transport := range harness.Transports() {
		for _, lane := range harness.Lanes() {
			t.Run(transport+"/"+lane, func(t *testing.T) {
				s := harness.Start(t, harness.Options{Args: []string{target}, Transport: transport, TLS: lane == "http2"})
				c := harness.Client(t, lane)
				body(t, s, c)
			})
		}
	}
}

func do(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return res, string(body)
}

func request(t *testing.T, method, url string, body io.Reader, fields ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	return r
}

func get(t *testing.T, c *http.Client, url string, fields ...string) (*http.Response, string) {
	t.Helper()
	return do(t, c, request(t, "GET", url, nil, fields...))
}

// want fails unless the answer has the status and contains the text.
func want(t *testing.T, res *http.Response, body string, status int, text string) {
	t.Helper()
	if res.StatusCode != status || !strings.Contains(body, text) {
		t.Errorf("%s %s: %d %.300q, want %d with %q", res.Request.Method, res.Request.URL, res.StatusCode, body, status, text)
	}
}

func noise(size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b) // never fails
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// wholeFile is what the test applications write to their FILE.
func wholeFile() []byte {
	line := make([]byte, 256)
	for i := range line {
		line[i] = byte(i)
	}
	return bytes.Repeat(line, 4096)
}

func checkDigest(t *testing.T, c *http.Client, url string, size int) {
	t.Helper()
	payload := noise(size)
	for _, known := range []bool{true, false} {
		var body io.Reader = bytes.NewReader(payload)
		if !known {
			body = io.MultiReader(body) // hides its length: chunked, or HTTP/2 without content-length
		}
		res, text := do(t, c, request(t, "POST", url, body))
		want(t, res, text, 200, sum(payload))
		want(t, res, text, 200, fmt.Sprint(size))
	}
}

// checkStream reads the first line of an answer whose application writes the others
// only when it is told that this one has arrived: a part of the road that collected
// the answer would wait for ever.
func checkStream(t *testing.T, c *http.Client, s *harness.Server) {
	t.Helper()
	res, err := c.Do(request(t, "GET", s.URL+"/stream", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	line := make([]byte, len("line 0\n"))
	if _, err := io.ReadFull(res.Body, line); err != nil || string(line) != "line 0\n" || res.StatusCode != 200 {
		t.Fatalf("%d %q %v", res.StatusCode, line, err)
	}
	opened, body := get(t, c, s.URL+"/open")
	want(t, opened, body, 200, "opened")
	var lines strings.Builder
	for n := range 9 {
		fmt.Fprintf(&lines, "line %d\n", n+1)
	}
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != lines.String() {
		t.Errorf("behind the first line: %q %v", rest, err)
	}
}

// checkEcho sends each piece of a body when the one before it has come back: neither
// the body nor the answer is collected on the way.
func checkEcho(t *testing.T, c *http.Client, s *harness.Server) {
	t.Helper()
	body, feed := io.Pipe()
	defer feed.Close() //nolint:errcheck // a pipe's never fails
	pieces := make(chan string)
	go func() {
		for piece := range pieces {
			_, _ = io.WriteString(feed, piece) // it fails with the request
		}
		_ = feed.Close() // a pipe's never fails
	}()
	defer close(pieces)
	pieces <- "piece 0"
	res, err := c.Do(request(t, "POST", s.URL+"/echo", body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read as far as it matters
	for n := range 3 {
		if n > 0 {
			pieces <- fmt.Sprintf("piece %d", n)
		}
		piece := make([]byte, len("piece 0"))
		if _, err := io.ReadFull(res.Body, piece); err != nil || string(piece) != fmt.Sprintf("piece %d", n) {
			t.Fatalf("%q %v, want piece %d", piece, err, n)
		}
	}
}

func TestFlaskRunsUnchanged(t *testing.T) {
	everyMode(t, "flask_app:app", func(t *testing.T, s *harness.Server, c *http.Client) {
		res, body := get(t, c, s.URL+"/")
		want(t, res, body, 200, "flask at '' sees '/'")

		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Jar = jar
		for n := 1; n <= 3; n++ {
			res, body = get(t, c, s.URL+"/count")
			want(t, res, body, 200, fmt.Sprint(n))
		}

		var form bytes.Buffer
		m := multipart.NewWriter(&form)
		part, err := m.CreateFormFile("upload", "noise.bin")
		if err != nil {
			t.Fatal(err)
		}
		payload := noise(300_000)
		_, _ = part.Write(payload) // into memory
		_ = m.WriteField("name", "città")
		_ = m.Close()
		res, body = do(t, c, request(t, "POST", s.URL+"/form", &form, "Content-Type", m.FormDataContentType()))
		want(t, res, body, 200, sum(payload))
		want(t, res, body, 200, `citt\u00e0`)

		checkDigest(t, c, s.URL+"/digest", 3<<20)

		checkStream(t, c, s)

		res, body = get(t, c, s.URL+"/file")
		if res.StatusCode != 200 || !bytes.Equal([]byte(body), wholeFile()) {
			t.Errorf("file: %d, %d bytes", res.StatusCode, len(body))
		}
		res, body = get(t, c, s.URL+"/file", "Range", "bytes=255-258")
		want(t, res, body, 206, "\xff\x00\x01\x02")
		res, body = get(t, c, s.URL+"/memory-file")
		if body != strings.Repeat("from memory ", 1000) {
			t.Errorf("memory file: %d, %d bytes", res.StatusCode, len(body))
		}
		res, body = do(t, c, request(t, "HEAD", s.URL+"/file", nil))
		if res.StatusCode != 200 || body != "" || res.ContentLength != 1<<20 {
			t.Errorf("HEAD: %d %q %d", res.StatusCode, body, res.ContentLength)
		}
		res, body = get(t, c, s.URL+"/error")
		want(t, res, body, 500, "Internal Server Error")
	})
}

func TestStarletteRunsUnchanged(t *testing.T) {
	everyMode(t, "starlette_app:app", func(t *testing.T, s *harness.Server, c *http.Client) {
		res, body := get(t, c, s.URL+"/")
		want(t, res, body, 200, "hello from lifespan")
		var seen struct {
			Loop    string
			Version string `json:"http_version"`
		}
		if err := json.Unmarshal([]byte(body), &seen); err != nil {
			t.Fatal(err)
		}
		if seen.Loop != "uvloop" {
			t.Errorf("uvloop is installed but the loop is %q", seen.Loop)
		}
		if lane := map[string]string{"1.1": "http1", "2": "http2"}[seen.Version]; !strings.HasSuffix(t.Name(), lane) || lane == "" {
			t.Errorf("http_version %q in %s", seen.Version, t.Name())
		}
		checkDigest(t, c, s.URL+"/digest", 3<<20)
		checkStream(t, c, s)
		checkEcho(t, c, s)
		res, body = get(t, c, s.URL+"/file")
		if res.StatusCode != 200 || !bytes.Equal([]byte(body), wholeFile()) {
			t.Errorf("file: %d, %d bytes", res.StatusCode, len(body))
		}
		res, body = get(t, c, s.URL+"/file", "Range", "bytes=255-258")
		want(t, res, body, 206, "\xff\x00\x01\x02")
		res, body = get(t, c, s.URL+"/later")
		want(t, res, body, 200, "accepted")
		res, body = get(t, c, s.URL+"/done?wait=1")
		want(t, res, body, 200, "done")
		res, body = get(t, c, s.URL+"/error")
		want(t, res, body, 500, "")
		s.WaitLog("an error in an endpoint", 10*time.Second)

		endless, err := c.Do(request(t, "GET", s.URL+"/endless", nil))
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len("data: tick"))
		if _, err := io.ReadFull(endless.Body, first); err != nil {
			t.Fatal(err)
		}
		_ = endless.Body.Close() // leaves in the middle
		res, body = get(t, c, s.URL+"/closed")
		want(t, res, body, 200, "closed")

		s.Signal(15)
		if code := s.Wait(30 * time.Second); code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}
		s.WaitLog("lifespan: stopped", time.Second)
	})
}

func TestFastAPIRunsUnchanged(t *testing.T) {
	everyMode(t, "fastapi_app:app", func(t *testing.T, s *harness.Server, c *http.Client) {
		item := `{"name":"ford","price":3.5}`
		res, body := do(t, c, request(t, "POST", s.URL+"/items", strings.NewReader(item), "Content-Type", "application/json"))
		want(t, res, body, 401, "no token")
		res, body = do(t, c, request(t, "POST", s.URL+"/items", strings.NewReader(item), "Content-Type", "application/json", "X-Token", "sesame"))
		want(t, res, body, 201, `{"id":1}`)
		res, body = do(t, c, request(t, "POST", s.URL+"/items", strings.NewReader(`{"name":"x","price":-1}`), "Content-Type", "application/json", "X-Token", "sesame"))
		want(t, res, body, 422, "greater_than")
		res, body = get(t, c, s.URL+"/items/1")
		want(t, res, body, 200, "ford")
		res, body = get(t, c, s.URL+"/items/7")
		want(t, res, body, 404, "Not Found")
		res, body = get(t, c, s.URL+"/numbers?n=1000")
		want(t, res, body, 200, "\n999\n")
		var form bytes.Buffer
		m := multipart.NewWriter(&form)
		part, err := m.CreateFormFile("file", "noise.bin")
		if err != nil {
			t.Fatal(err)
		}
		payload := noise(500_000)
		_, _ = part.Write(payload) // into memory
		_ = m.WriteField("note", "for you")
		_ = m.Close()
		res, body = do(t, c, request(t, "POST", s.URL+"/upload", &form, "Content-Type", m.FormDataContentType()))
		want(t, res, body, 200, sum(payload))
		res, body = get(t, c, s.URL+"/openapi.json")
		want(t, res, body, 200, `"/items/{number}"`)
	})
}

func TestWsgirefValidateFindsNothingToComplainAbout(t *testing.T) {
	everyMode(t, "validated:application", func(t *testing.T, s *harness.Server, c *http.Client) {
		res, body := get(t, c, s.URL+"/a/%C3%A0?q=1")
		want(t, res, body, 200, "validated ")
		res, body = do(t, c, request(t, "POST", s.URL+"/b", strings.NewReader("payload")))
		want(t, res, body, 200, "validated payload")
		res, body = do(t, c, request(t, "HEAD", s.URL+"/b", nil))
		want(t, res, body, 200, "")
		if log := s.Log(); strings.Contains(log, "AssertionError") || strings.Contains(log, "WSGIWarning") {
			t.Errorf("the validator complains:\n%s", log)
		}
	})
}

func TestProcessPoolsWorkInsideAnApplicationInEveryStartMethod(t *testing.T) {
	everyMode(t, "pools:application", func(t *testing.T, s *harness.Server, c *http.Client) {
		for _, method := range []string{"fork", "spawn", "forkserver"} {
			res, body := get(t, c, s.URL+"/?method="+url.QueryEscape(method))
			want(t, res, body, 200, "285")
		}
		res, body := get(t, c, s.URL+"/?method=subprocess")
		want(t, res, body, 200, "45")
	})
}
