package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/guado-server/guado/internal/exchange"
)

// What no well-behaved HTTP/2 client sends, frame by frame.

// h2Client speaks frames.
type h2Client struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	fields bytes.Buffer
	hpack  *hpack.Encoder
	next   uint32
	// settings and connection window that the server announced
	settings map[http2.SettingID]uint32
	window   uint32
}

func (r *running) h2(settings ...http2.Setting) *h2Client {
	r.t.Helper()
	c := &h2Client{t: r.t, conn: r.dial(), next: 1, settings: map[http2.SettingID]uint32{}}
	c.framer = http2.NewFramer(c.conn, c.conn)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.hpack = hpack.NewEncoder(&c.fields)
	if _, err := io.WriteString(c.conn, preface); err != nil {
		r.t.Fatal(err)
	}
	c.must(c.framer.WriteSettings(settings...))
	// The server says both in either order.
	for acknowledged := false; !acknowledged || c.window == 0; {
		f, err := c.framer.ReadFrame()
		if err != nil {
			r.t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				acknowledged = true
				continue
			}
			c.must(f.ForeachSetting(func(s http2.Setting) error {
				c.settings[s.ID] = s.Val
				return nil
			}))
			c.must(c.framer.WriteSettingsAck())
		case *http2.WindowUpdateFrame:
			c.window = 65535 + f.Increment
		}
	}
	return c
}

func (c *h2Client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// block encodes "name: value" lines; names may begin with a colon.
func (c *h2Client) block(lines ...string) []byte {
	c.fields.Reset()
	for _, l := range lines {
		i := strings.Index(l[1:], ": ") + 1
		c.must(c.hpack.WriteField(hpack.HeaderField{Name: l[:i], Value: l[i+2:]}))
	}
	return c.fields.Bytes()
}

var getRoot = []string{":method: GET", ":scheme: https", ":authority: a.test", ":path: /"}

func (c *h2Client) open(endStream bool, lines ...string) (uint32, error) {
	id := c.next
	c.next += 2
	return id, c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(lines...), EndHeaders: true, EndStream: endStream})
}

// answer reads until the stream has ended: its status and body, or how it was reset.
func (c *h2Client) answer(id uint32) (status, body string) {
	c.t.Helper()
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return "connection closed", err.Error()
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String(), ""
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return "RST " + f.ErrCode.String(), body
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				if status == "" {
					status = f.PseudoValue("status")
				}
				if f.StreamEnded() {
					return status, body
				}
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				body += string(f.Data())
				if f.StreamEnded() {
					return status, body
				}
			}
		}
	}
}

func (c *h2Client) request(endStream bool, lines ...string) (status, body string) {
	c.t.Helper()
	id, err := c.open(endStream, lines...)
	c.must(err)
	return c.answer(id)
}

func with(lines []string, more ...string) []string {
	return append(append([]string{}, lines...), more...)
}

var h2 = modes[2]

func TestHardeningHTTP2AnnouncesItsLimits(t *testing.T) {
	c := serve(t, h2, described).h2()
	for id, want := range map[http2.SettingID]uint32{
		http2.SettingMaxConcurrentStreams: 100, http2.SettingInitialWindowSize: 64 << 10, http2.SettingMaxFrameSize: 16 << 10,
	} {
		if c.settings[id] != want {
			t.Errorf("%v is %d, want %d", id, c.settings[id], want)
		}
	}
	if c.settings[http2.SettingMaxHeaderListSize] > 128<<10 || c.window != 1<<20 {
		t.Errorf("header list %d, connection window %d", c.settings[http2.SettingMaxHeaderListSize], c.window)
	}
}

func TestHardeningHTTP2RequestsThatHTTP1CouldNotSay(t *testing.T) {
	var reached atomic.Bool
	r := serve(t, h2, func(x *exchange.Exchange) {
		reached.Store(true)
		text(x, 200, "")
	})
	for name, c := range map[string]struct {
		lines []string
		want  string // prefix of the status; "RST" and "GOAWAY" are as good as 400
	}{
		"Connection":                 {with(getRoot, "connection: close"), "400"},
		"Keep-Alive":                 {with(getRoot, "keep-alive: 5"), "400"},
		"Transfer-Encoding":          {with(getRoot, "transfer-encoding: chunked"), "400"},
		"Upgrade":                    {with(getRoot, "upgrade: websocket"), "400"},
		"Proxy-Connection":           {with(getRoot, "proxy-connection: x"), "400"},
		"TE other than trailers":     {with(getRoot, "te: gzip"), "400"},
		"CR LF in a value":           {with(getRoot, "x: a\r\nhost: evil"), "RST"},
		"LF in a value":              {with(getRoot, "x: a\nb"), "RST"},
		"NUL in a value":             {with(getRoot, "x: a\x00b"), "RST"},
		"colon in a name":            {with(getRoot, "x:y: a"), "RST"},
		"space in a name":            {with(getRoot, "x y: a"), "RST"},
		"capitals in a name":         {with(getRoot, "X-Y: a"), "RST"},
		"CR LF in the path":          {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: / HTTP/1.1\r\nx: y"}, "RST"},
		"space in the path":          {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: /a b"}, "400"},
		"fragment in the path":       {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: /a#b"}, "400"},
		"path in absolute form":      {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: http://evil.test/"}, "400"},
		"path that is none":          {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: evil"}, "RST"},
		"asterisk for GET":           {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: *"}, "400"},
		"raw byte in the path":       {[]string{":method: GET", ":scheme: https", ":authority: a.test", ":path: /\xe4"}, "400"},
		"method that is no token":    {[]string{":method: GET /x", ":scheme: https", ":authority: a.test", ":path: /"}, "400"},
		"CR LF in the authority":     {[]string{":method: GET", ":scheme: https", ":authority: a.test\r\nx: y", ":path: /"}, "RST"},
		"userinfo in the authority":  {[]string{":method: GET", ":scheme: https", ":authority: a@b.test", ":path: /"}, "RST"},
		"list in the authority":      {[]string{":method: GET", ":scheme: https", ":authority: a.test,b.test", ":path: /"}, "400"},
		"no authority and no Host":   {[]string{":method: GET", ":scheme: https", ":path: /"}, "400"},
		"authority and another Host": {with(getRoot, "host: b.test"), "400"},
		"two Hosts":                  {with(getRoot, "host: a.test", "host: a.test"), "400"},
		"pseudo field after others":  {[]string{":method: GET", ":scheme: https", ":authority: a.test", "x: y", ":path: /"}, "RST"},
		"two paths":                  {with(getRoot, ":path: /other"), "RST"},
		"no path":                    {[]string{":method: GET", ":scheme: https", ":authority: a.test"}, "RST"},
		"response pseudo field":      {with(getRoot, ":status: 200"), "RST"},
		"two Content-Types":          {with(getRoot, "content-type: a/b", "content-type: c/d"), "400"},
		"Content-Length of no body":  {with(getRoot, "content-length: 5"), "400"},
		"signed Content-Length":      {with(getRoot, "content-length: +0"), "400"},
		"two Content-Lengths":        {with(getRoot, "content-length: 0", "content-length: 0"), "400"},
		"list of Content-Lengths":    {with(getRoot, "content-length: 0, 0"), "400"},
		"CONNECT":                    {[]string{":method: CONNECT", ":authority: a.test:443"}, "501"},
		"extended CONNECT":           {[]string{":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: a.test", ":path: /"}, "RST"},
	} {
		client := r.h2()
		status, _ := client.request(true, c.lines...)
		if !strings.HasPrefix(status, c.want) {
			t.Errorf("%s: %s, want %s", name, status, c.want)
		}
		if reached.Swap(false) {
			t.Errorf("%s: it reached the step", name)
		}
	}
	for name, lines := range map[string][]string{
		"Host that agrees":       with(getRoot, "host: A.test"),
		"Host alone":             {":method: GET", ":scheme: https", ":path: /", "host: a.test"},
		"TE: trailers":           with(getRoot, "te: trailers"),
		"Content-Length of 0":    with(getRoot, "content-length: 0"),
		"another scheme":         {":method: GET", ":scheme: http", ":authority: a.test", ":path: /"},
		"cookies in pieces":      with(getRoot, "cookie: a=b", "cookie: c=d"),
		"asterisk for OPTIONS":   {":method: OPTIONS", ":scheme: https", ":authority: a.test", ":path: *"},
		"a name with underscore": with(getRoot, "x_y: z"),
	} {
		if status, _ := r.h2().request(true, lines...); status != "200" {
			t.Errorf("%s: %s, want 200", name, status)
		}
	}
}

func TestHTTP2SchemeComesFromTheConnection(t *testing.T) {
	r := serve(t, modes[3], func(x *exchange.Exchange) { text(x, 200, x.Scheme+string(x.Field("cookie"))) })
	if _, body := r.h2().request(true, with(getRoot, "cookie: a=b", "cookie: c=d")...); body != "httpa=b; c=d" {
		t.Errorf("a client that says https without TLS gets %q", body)
	}
}

func TestHardeningHTTP2BodiesMatchTheirLength(t *testing.T) {
	r := serve(t, h2, func(x *exchange.Exchange) {
		body, err := io.ReadAll(x.Body)
		text(x, 200, fmt.Sprint(string(body), " ", errors.Is(err, exchange.ErrMalformedBody), err == nil))
	})
	post := []string{":method: POST", ":scheme: https", ":authority: a.test", ":path: /"}
	for data, want := range map[string]string{"four": "200 four true false", "six66!": "RST", "five5": "200 five5 false true"} {
		c := r.h2()
		id, err := c.open(false, with(post, "content-length: 5")...)
		c.must(err)
		c.must(c.framer.WriteData(id, true, []byte(data)))
		status, body := c.answer(id)
		if got := status + " " + body; !strings.HasPrefix(got, want) {
			t.Errorf("%q with a length of 5: %s, want %s", data, got, want)
		}
	}
}

// cutAfter opens and ends streams until the server closes the connection; how many it
// took.
func cutAfter(c *h2Client, most int, end func(id uint32) error) int {
	closed := make(chan struct{})
	go func() { // so that the server is never stopped by what it has to say
		defer close(closed)
		_, _ = io.Copy(io.Discard, c.conn)
	}()
	for n := range most {
		id, err := c.open(true, getRoot...)
		if err == nil {
			err = end(id)
		}
		if err != nil {
			return n
		}
		select {
		case <-closed:
			return n
		default:
		}
	}
	select {
	case <-closed:
	case <-time.After(time.Second):
		return -1
	}
	return most
}

func TestHardeningRapidResetClosesTheConnection(t *testing.T) {
	for name, end := range map[string]func(c *h2Client) func(uint32) error{
		"by the client (CVE-2023-44487)": func(c *h2Client) func(uint32) error {
			return func(id uint32) error { return c.framer.WriteRSTStream(id, http2.ErrCodeCancel) }
		},
		"by the server, made to (CVE-2025-8671)": func(c *h2Client) func(uint32) error {
			return func(id uint32) error { return c.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var under, most atomic.Int64
			r := serve(t, h2, func(x *exchange.Exchange) {
				n := under.Add(1)
				defer under.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				for x.Gone() != exchange.Closed {
					x.Wait()
				}
			}, func(o *Options) { o.HTTP2.Resets = 50 })
			c := r.h2()
			n := cutAfter(c, 20_000, end(c))
			if n < 50 || n == 20_000 {
				t.Errorf("the connection was closed after %d streams", n)
			}
			if most.Load() > 100 {
				t.Errorf("%d steps ran at a time", most.Load())
			}
			eventually(t, "the reason is logged", func() bool { return strings.Contains(r.logs.String(), "too many cancelled streams") })
			eventually(t, "all steps have ended", func() bool { return under.Load() == 0 })
		})
	}
}

func TestClientsThatCancelNowAndThenAreKept(t *testing.T) {
	r := serve(t, h2, func(x *exchange.Exchange) {
		if string(x.Path) == "/whole" {
			text(x, 200, "ok")
			return
		}
		for x.Gone() != exchange.Closed {
			x.Wait()
		}
	}, func(o *Options) { o.HTTP2.Resets = 50 })
	c := r.h2()
	for range 40 {
		id, err := c.open(true, getRoot...)
		c.must(err)
		c.must(c.framer.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	for range 100 { // answered streams cost nothing
		if status, _ := c.request(true, ":method: GET", ":scheme: https", ":authority: a.test", ":path: /whole"); status != "200" {
			t.Fatalf("status %s", status)
		}
	}
	for range 5 { // HEAD is answered by the head: its end is no cancelling
		if status, _ := c.request(true, ":method: HEAD", ":scheme: https", ":authority: a.test", ":path: /whole"); status != "200" {
			t.Fatalf("status %s", status)
		}
	}
}

func TestHardeningContinuationFloodEnds(t *testing.T) { // CVE-2023-45288
	r := serve(t, h2, func(x *exchange.Exchange) { text(x, 200, "") })
	c := r.h2()
	block := bytes.Clone(c.block(getRoot...))
	c.must(c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true}))
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, c.conn)
	}()
	more := bytes.Clone(c.block("x-fill: " + strings.Repeat("x", 4000)))
	sent := 0
	for range 100_000 {
		select {
		case <-closed:
		default:
		}
		if err := c.framer.WriteContinuation(1, false, more); err != nil {
			break
		}
		sent += len(more)
	}
	<-closed
	if sent > 8<<20 {
		t.Errorf("the server took %d bytes of one header block", sent)
	}
}

func TestHardeningAClosedWindowDoesNotHoldAnAnswerForever(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": 100_000} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, h2, func(x *exchange.Exchange) { text(x, 200, strings.Repeat("x", size)) },
				func(o *Options) { o.Limits.WriteIdle = 300 * time.Millisecond })
			c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if status, body := c.request(true, getRoot...); !strings.HasPrefix(status, "RST") || body != "" {
				t.Errorf("a client that opens no window gets %q %q", status, body)
			}
		})
	}
}

func TestHardeningMoreStreamsThanAnnouncedAreRefused(t *testing.T) {
	entered, release := make(chan struct{}, 200), make(chan struct{})
	r := serve(t, h2, func(x *exchange.Exchange) {
		entered <- struct{}{}
		<-release
		text(x, 200, "")
	}, func(o *Options) { o.HTTP2.Streams = 5 })
	defer close(release)
	c := r.h2()
	for range 5 {
		_, err := c.open(true, getRoot...)
		c.must(err)
	}
	for range 5 {
		<-entered
	}
	if status, _ := c.request(true, getRoot...); !strings.HasPrefix(status, "RST") {
		t.Errorf("one more stream: %s", status)
	}
}

func TestAnHTTP2ConnectionIsServedAfterItsErrors(t *testing.T) {
	r := serve(t, h2, func(x *exchange.Exchange) {
		if string(x.Path) == "/abort" {
			x.Answer.Abort(errors.New("cut"))
			return
		}
		text(x, 200, fmt.Sprint(x.Length))
	})
	c := r.h2()
	if status, _ := c.request(true, ":method: GET", ":scheme: https", ":authority: a.test", ":path: /abort"); !strings.HasPrefix(status, "RST") {
		t.Errorf("an aborted answer: %s", status)
	}
	if status, _ := c.request(true, with(getRoot, "connection: x")...); status != "400" {
		t.Errorf("a bad request: %s", status)
	}
	if status, body := c.request(true, getRoot...); status != "200" || body != "0" {
		t.Errorf("a good one after them: %s %q", status, body)
	}
}
