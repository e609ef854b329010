package edge

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// The hygiene of requests, seen by the step that gets them, in both lanes.

// described answers with what the step sees of the request.
func described(x *exchange.Exchange) {
	var b strings.Builder
	for _, f := range x.Fields {
		fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(string(f.Name)), f.Value)
	}
	text(x, 200, b.String())
}

func TestHardeningNamesThatAliasOthersAreDropped(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, described, func(o *Options) { o.AllowHeaders = []string{"x_allowed"} })
		_, seen := r.get("/", "x-real: 1", "x_real: forged", "x.real: forged", "x_allowed: yes", "content_length: 7")
		for _, want := range []string{"x-real: 1\n", "x_allowed: yes\n"} {
			if !strings.Contains(seen, want) {
				t.Errorf("%q is missing in\n%s", want, seen)
			}
		}
		for _, bad := range []string{"forged", "content_length"} {
			if strings.Contains(seen, bad) {
				t.Errorf("%q got through:\n%s", bad, seen)
			}
		}
	})
}

func TestHardeningProxyAndOurOwnFieldsAreDropped(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, described)
		_, seen := r.get("/", "Proxy: http://evil.test", "Guado-User: root", "guado-message: x", "Proxy-Authorization: Basic eA==",
			"Proxy-Connection2: 1", "Cookie: a=b", "Authorization: kept")
		for _, bad := range []string{"evil", "guado", "proxy"} {
			if strings.Contains(seen, bad) {
				t.Errorf("%q got through:\n%s", bad, seen)
			}
		}
		if !strings.Contains(seen, "cookie: a=b\n") || !strings.Contains(seen, "authorization: kept\n") {
			t.Errorf("ordinary fields were lost:\n%s", seen)
		}
	})
}

func TestHardeningHopByHopFieldsAreDropped(t *testing.T) {
	r := serve(t, modes[0], described)
	answer := r.raw("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Hop, X-Forwarded-For, Authorization\r\nKeep-Alive: 5\r\n" +
		"TE: trailers\r\nX-Hop: 1\r\nAuthorization: secret\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-End: 2\r\n\r\n")
	for _, bad := range []string{"x-hop", "keep-alive", "\nte:", "upgrade", "http2-settings", "connection: close, x-hop"} {
		if strings.Contains(answer, bad) {
			t.Errorf("%q got through:\n%s", bad, answer)
		}
	}
	// What a proxy or an application relies on cannot be stripped by naming it.
	for _, want := range []string{"authorization: secret", "x-end: 2"} {
		if !strings.Contains(answer, want) {
			t.Errorf("%q is missing in\n%s", want, answer)
		}
	}
}

func TestHardeningForwardedFieldsOfStrangersAreDropped(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			if x.Client.Addr().String() != "127.0.0.1" || strings.HasPrefix(x.ID, "forged") || string(x.Host) == "evil.test" {
				t.Errorf("client %s, id %q, host %q", x.Client, x.ID, x.Host)
			}
			if want := map[bool]string{true: "https", false: "http"}[m.tls]; x.Scheme != want {
				t.Errorf("scheme %q, want %q", x.Scheme, want)
			}
			described(x)
		})
		_, seen := r.get("/", "X-Forwarded-For: 203.0.113.1", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.test",
			"X-Forwarded-Prefix: /evil", "X-Forwarded-Anything: 1", "Forwarded: for=203.0.113.1", "X-Real-IP: 203.0.113.1",
			"X-Request-ID: forged-forged", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate: a=b")
		for _, bad := range []string{"forwarded", "x-real-ip", "x-request-id", "trace"} {
			if strings.Contains(seen, bad) {
				t.Errorf("%q got through:\n%s", bad, seen)
			}
		}
	})
}

func trust(networks ...string) func(*Options) {
	return func(o *Options) {
		var err error
		if o.TrustedProxies, o.TrustUnix, err = ParseTrusted(networks); err != nil {
			panic(err)
		}
	}
}

func TestWhatATrustedProxySaysIsBelieved(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		r := serve(t, m, func(x *exchange.Exchange) {
			text(x, 200, fmt.Sprint(x.Client.Addr(), " ", x.Peer, " ", x.Scheme, " ", string(x.Host), " ", x.ID, " ", string(x.TraceParent), " ", string(x.Field("tracestate"))))
		}, trust("127.0.0.1"))
		_, got := r.get("/", "X-Forwarded-For: 198.51.100.9, 203.0.113.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.test",
			"X-Forwarded-Port: 8443", "X-Request-ID: from-the-proxy-1", "Traceparent: "+trace, "Tracestate: a=b")
		if want := "203.0.113.1 127.0.0.1 https shop.test:8443 from-the-proxy-1 " + trace + " a=b"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestHardeningHostMustBeOneAndAName(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, string(x.Host)) })
	for head, want := range map[string]string{
		"Host: a.test\r\n":                   "200",
		"Host: a.test:8080\r\n":              "200",
		"Host: [2001:db8::1]:80\r\n":         "200",
		"Host: under_score\r\n":              "200",
		"":                                   "400",
		"Host: a.test\r\nHost: a.test\r\n":   "400",
		"Host: a.test\r\nHost: b.test\r\n":   "400",
		"Host: user@a.test\r\n":              "400",
		"Host: a.test/evil\r\n":              "400",
		"Host: a.test, b.test\r\n":           "400",
		"Host: a.test:80:80\r\n":             "400",
		"Host: a.test:http\r\n":              "400",
		"Host: [2001:db8::1\r\n":             "400",
		"Host: [x]\r\n":                      "400",
		"Host: %61.test\r\n":                 "400",
		"Host: a.test\x01\r\n":               "400",
		"Host: a\xc3\xa4.test\r\n":           "400",
		"Host: a.test\r\nX_Host: b.test\r\n": "200",
	} {
		if answer := r.raw("GET / HTTP/1.1\r\n" + head + "Connection: close\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("%q: %.60q, want %s", head, answer, want)
		}
	}
	if answer := r.raw("GET / HTTP/1.0\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("HTTP/1.0 without Host: %.60q", answer)
	}
}

func TestHardeningHostsBeyondTheListGet421(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) {
			o.AllowHosts, o.AnyHost = []string{"Shop.test", "*.example.org"}, []string{"/up"}
		})
		for host, want := range map[string]int{
			"shop.test": 200, "SHOP.TEST:8000": 200, "shop.test.": 200, "a.example.org": 200, "a.b.example.org:1": 200,
			"example.org": 421, "evilexample.org": 421, "evil.test": 421, "127.0.0.1": 421, "shop.test.evil.test": 421,
		} {
			resp, page := r.get("/", "Host: "+host)
			if resp.StatusCode != want || want == 421 && !strings.Contains(page, "host_not_allowed") {
				t.Errorf("%s: status %d, want %d; %q", host, resp.StatusCode, want, page)
			}
			if resp, _ := r.get("/up", "Host: "+host); resp.StatusCode != 200 {
				t.Errorf("%s: a probe, which comes by address, gets %d", host, resp.StatusCode)
			}
		}
	})
	if _, err := newHostList([]string{"*"}); err == nil {
		t.Error("a list with * was accepted")
	}
}

func TestHardeningTheSamePathForRouteAndApplication(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, fmt.Sprintf("[%s|%s|%s]", x.RawPath, x.Path, x.Query)) })
	for target, want := range map[string]string{
		"/":                    "[/|/|]",
		"/a/b?c=d?e":           "[/a/b|/a/b|c=d?e]",
		"/a%20b":               "[/a%20b|/a b|]",
		"//a//b/":              "[//a//b/|//a//b/|]",
		"/a%2Fb":               "[/a%2Fb|/a/b|]",
		"/a%252Fb":             "[/a%252Fb|/a%2Fb|]",
		"/%E4%f6":              "[/%E4%f6|/\xe4\xf6|]",
		"/a%5cb":               "[/a%5cb|/a\\b|]",
		"/a%3Bb%3Fc%23d":       "[/a%3Bb%3Fc%23d|/a;b?c#d|]",
		"/...":                 "[/...|/...|]",
		"/a..b/.c/d./..e/e..":  "[/a..b/.c/d./..e/e..|/a..b/.c/d./..e/e..|]",
		"/?%00%zz":             "[/|/|%00%zz]",
		"http://a.test/x%41?y": "[/x%41|/xA|y]",
		"/%00":                 "400",
		"/a%0":                 "400",
		"/a%":                  "400",
		"/a%zz":                "400",
		"/..":                  "400",
		"/../a":                "400",
		"/a/..":                "400",
		"/a/./b":               "400",
		"/.":                   "400",
		"/a/%2e%2e/b":          "400",
		"/a/.%2E":              "400",
		"/a%2f..%2fb":          "400",
		"/a/..%5cb":            "400",
		"/a\\..\\b":            "400",
		"/a#b":                 "400",
		"/a\x7f":               "400",
		"/\xc3\xa4":            "400",
		"a":                    "400",
		"*":                    "400",
	} {
		answer := r.raw("GET " + target + " HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if want == "400" {
			want = "HTTP/1.1 400"
		}
		if !strings.Contains(answer, want) {
			t.Errorf("%q: no %q in %q", target, want, answer)
		}
	}
}

func TestPathsAreTheSameInBothLanes(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) { text(x, 200, fmt.Sprintf("[%s|%s]", x.RawPath, x.Path)) })
		for path, want := range map[string]string{
			"/x//a%2Fb": "[/x//a%2Fb|/x//a/b]", "/a%252F": "[/a%252F|/a%2F]", "/a/%2e%2e": "400", "/%00": "400", "/x/..%2f": "400",
		} {
			req := r.request("GET", "/", nil)
			req.URL.Opaque = path
			if !m.h2 {
				req.URL.Opaque = "" // in HTTP/1.1 the client would send it in absolute form
				req.URL.Path, req.URL.RawPath = "", ""
				var err error
				if req.URL, err = req.URL.Parse(r.url("") + path); err != nil {
					t.Fatal(err)
				}
			}
			resp, body := r.do(req)
			if want == "400" && resp.StatusCode != 400 || want != "400" && body != want {
				t.Errorf("%s: status %d, %s, want %s", path, resp.StatusCode, body, want)
			}
		}
	})
}

func TestRequestIDsAreUniqueAndExposedOnDemand(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			if string(x.Path) == "/fail" {
				x.Fail(&exchange.Problem{Status: 503, Code: "queue_full"})
				return
			}
			text(x, 200, x.ID+" "+string(x.TraceParent))
		}, func(o *Options) { o.ExposeRequestID = true; o.HSTS = 24 * time.Hour })
		seen := map[string]bool{}
		for range 5 {
			resp, body := r.get("/")
			id, trace, _ := strings.Cut(body, " ")
			if seen[id] || len(id) != 16 || resp.Header.Get("X-Request-Id") != id || !validTrace([]byte(trace)) {
				t.Errorf("id %q, field %q, trace %q", id, resp.Header.Get("X-Request-Id"), trace)
			}
			if hsts := resp.Header.Get("Strict-Transport-Security"); (hsts == "max-age=86400") != m.tls {
				t.Errorf("HSTS %q", hsts)
			}
			seen[id] = true
		}
		resp, page := r.get("/fail")
		if id := resp.Header.Get("X-Request-Id"); id == "" || !strings.Contains(page, id) {
			t.Errorf("id %q of the page %q", id, page)
		}
	})
}

func TestAFieldThatTheStepHasSetIsNotAddedAgain(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			h := exchange.Head{Status: 204, Fields: []exchange.Field{field("x-request-id", "its own"), field("strict-transport-security", "max-age=0")}}
			if err := x.Answer.Head(h); err != nil {
				t.Error(err)
			}
		}, func(o *Options) { o.ExposeRequestID = true; o.HSTS = 24 * time.Hour })
		resp, _ := r.get("/")
		if ids, hsts := resp.Header["X-Request-Id"], resp.Header["Strict-Transport-Security"]; len(ids) != 1 || ids[0] != "its own" ||
			len(hsts) != 1 || hsts[0] != "max-age=0" {
			t.Errorf("%v", resp.Header)
		}
	})
}

func TestOnlyWellFormedIDsAreTakenOver(t *testing.T) {
	for id, want := range map[string]bool{
		"0123456789abcdef": true, "a-b_c.d/e+f=g:h@i": true, "short": false, "with space": false, "quote\"quote": false,
		strings.Repeat("x", 129): false, "line\nbreak": false,
	} {
		if wellFormedID([]byte(id)) != want {
			t.Errorf("%q: want %t", id, want)
		}
	}
	for trace, want := range map[string]bool{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":     true,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-new": true,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-new": false,
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":     false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":     false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":     false,
		"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":     false,
		"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01":     false,
		"": false,
	} {
		if validTrace([]byte(trace)) != want {
			t.Errorf("%q: want %t", trace, want)
		}
	}
}

func TestTrustedListsAreRead(t *testing.T) {
	p, unix, err := ParseTrusted([]string{"10.0.0.0/8", "::ffff:192.0.2.1", "2001:db8::/32", "unix"})
	if err != nil || !unix || len(p) != 3 || p[1] != netip.MustParsePrefix("192.0.2.1/32") {
		t.Errorf("%v %t %v", p, unix, err)
	}
	for _, bad := range []string{"10.0.0.1/8", "localhost", "", "*"} {
		if _, _, err := ParseTrusted([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func browserRequest() (*exchange.Exchange, []exchange.Field) {
	x := exchange.New()
	fields := []exchange.Field{
		field("Host", "shop.example.org"), field("Connection", "keep-alive"),
		field("sec-ch-ua", `"Chromium";v="124", "Google Chrome";v="124"`), field("sec-ch-ua-mobile", "?0"),
		field("Upgrade-Insecure-Requests", "1"),
		field("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"),
		field("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
		field("Sec-Fetch-Site", "same-origin"), field("Sec-Fetch-Mode", "navigate"), field("Sec-Fetch-Dest", "document"),
		field("Referer", "https://shop.example.org/catalogue/"), field("Accept-Encoding", "gzip, deflate, br, zstd"),
		field("Accept-Language", "en-US,en;q=0.9,it;q=0.8"), field("Cookie", "sessionid=0123456789abcdef0123456789abcdef; csrftoken=abcdefabcdef"),
	}
	return x, fields
}

func BenchmarkPrepare(b *testing.B) {
	few := []exchange.Field{field("Host", "127.0.0.1:8000"), field("Connection", "keep-alive"), field("Accept", "*/*")}
	_, browser := browserRequest()
	for name, fields := range map[string][]exchange.Field{"few fields": few, "browser": browser} {
		b.Run(name, func(b *testing.B) {
			p, err := newPreparer(&Options{})
			if err != nil {
				b.Fatal(err)
			}
			x := exchange.New()
			c := &lane.Conn{Peer: netip.MustParseAddrPort("192.0.2.1:4711"), LocalName: "127.0.0.1", LocalPort: 8000}
			target := []byte("/catalogue/items?page=2&order=price")
			b.ReportAllocs()
			for b.Loop() {
				x.Reset()
				x.Method, x.Version, x.Target = "GET", exchange.HTTP11, target
				x.Fields = append(x.Fields[:0], fields...)
				if problem, _ := p.prepare(x, c); problem != nil {
					b.Fatal(problem)
				}
			}
		})
	}
}
