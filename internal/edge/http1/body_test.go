package http1

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

const chunkedHead = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

// malformedBodies is the chunk side of "HTTP/1.1 front" in the traps and of "Framing"
// in the hardening list.
var malformedBodies = []struct{ trap, body string }{
	{"chunk-size sign +", "+5\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size sign -", "-5\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"},
	{"chunk-size 0x", "0x5\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size empty", "\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size not hexadecimal", "g\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size overflow to 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size of 16 digits", "0000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size with space before", " 5\r\nhello\r\n0\r\n\r\n"},
	{"chunk-size with space behind", "5 \r\nhello\r\n0\r\n\r\n"},
	{"chunk-size list", "5, 5\r\nhello\r\n0\r\n\r\n"},
	{"bare LF behind the size", "5\nhello\r\n0\r\n\r\n"},
	{"bare LF behind the content", "5\r\nhello\n0\r\n\r\n"},
	{"bare LF in the last chunk", "5\r\nhello\r\n0\n\r\n"},
	{"bare LF ends the trailers", "5\r\nhello\r\n0\r\n\n"},
	{"bare CR behind the size", "5\rhello\r\n0\r\n\r\n"},
	{"bare CR behind the content", "5\r\nhello\r0\r\n\r\n"},
	{"content longer than its size", "4\r\nhello\r\n0\r\n\r\n"},
	{"content shorter than its size", "6\r\nhello\r\n0\r\n\r\n"},
	{"chunk-ext CR", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
	{"chunk-ext LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"},
	{"chunk-ext NUL", "5;a\x00b\r\nhello\r\n0\r\n\r\n"},
	{"chunk-ext without semicolon", "5 a=b\r\nhello\r\n0\r\n\r\n"},
	{"chunk-ext too long", "5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n"},
	{"chunk-ext without end", "5;" + strings.Repeat("a", 3000)},
	{"chunk-ext many", strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 100) + "0\r\n\r\n"},
	{"trailer without colon", "0\r\nabc\r\n\r\n"},
	{"trailer with space before colon", "0\r\nA : b\r\n\r\n"},
	{"trailer obs-fold", "0\r\nA: b\r\n c\r\n\r\n"},
	{"trailer NUL", "0\r\nA: b\x00\r\n\r\n"},
	{"trailers too large", "0\r\nA: " + strings.Repeat("a", 9<<10) + "\r\n\r\n"},
	{"trailers too large together", "0\r\n" + strings.Repeat("A: "+strings.Repeat("a", 500)+"\r\n", 20) + "\r\n"},
	{"trailers too many", "0\r\n" + strings.Repeat("A:b\r\n", 101) + "\r\n"},
}

// cutBodies end with the connection before they are complete.
var cutBodies = []struct{ trap, request string }{
	{"truncated final CRLF", chunkedHead + "5\r\nhello\r\n0\r\n"},
	{"truncated final LF", chunkedHead + "5\r\nhello\r\n0\r\n\r"},
	{"no last chunk", chunkedHead + "5\r\nhello\r\n"},
	{"cut in content", chunkedHead + "5\r\nhel"},
	{"cut in a size", chunkedHead + "5"},
	{"cut behind content", chunkedHead + "5\r\nhello\r"},
	{"cut in a trailer", chunkedHead + "5\r\nhello\r\n0\r\nA: b"},
	{"no body at all, chunked", chunkedHead},
	{"fewer bytes than Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nhello"},
	{"no body at all, with Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"},
}

// bodySeen is what an application would have got of a body.
type bodySeen struct {
	text     string
	err      error
	again    error // of the Read after the error
	trailers string
}

func readAll(x *exchange.Exchange) bodySeen {
	var s bodySeen
	buf := make([]byte, 7)
	for {
		n, err := x.Body.Read(buf)
		s.text += string(buf[:n])
		if err != nil {
			s.err = err
			_, s.again = x.Body.Read(buf)
			for _, f := range x.Body.Trailers() {
				s.trailers += fmt.Sprintf("%s=%s;", f.Name, f.Value)
			}
			return s
		}
	}
}

func TestAMalformedChunkedBodyNeverLooksComplete(t *testing.T) {
	seen := make(chan bodySeen, 2)
	r := serve(t, func(x *exchange.Exchange) { seen <- readAll(x); say(x, 400, "no") })
	for _, c := range malformedBodies {
		t.Run(c.trap, func(t *testing.T) {
			rigOf := *r
			rigOf.t = t
			conn := rigOf.dial()
			conn.send("%s", chunkedHead+c.body+"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
			if got := conn.expect(400, "no"); !got.Close {
				t.Error("the answer does not say Connection: close")
			}
			s := <-seen
			if !errors.Is(s.err, exchange.ErrMalformedBody) || !errors.Is(s.again, exchange.ErrMalformedBody) {
				t.Errorf("body reads as %q and ends with %v, then %v", s.text, s.err, s.again)
			}
			conn.finish()
			conn.closed()
			if len(seen) > 0 {
				t.Errorf("what followed was served")
			}
		})
	}
}

func TestABodyThatIsCutNeverLooksComplete(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		seen := make(chan bodySeen, 2)
		r := serve(t, func(x *exchange.Exchange) { seen <- readAll(x); say(x, 400, "cut") }, o)
		for _, c := range cutBodies {
			t.Run(c.trap, func(t *testing.T) {
				rigOf := *r
				rigOf.t = t
				conn := rigOf.dial().send("%s", c.request).finish()
				s := <-seen
				if !errors.Is(s.err, exchange.ErrClientGone) || !errors.Is(s.again, exchange.ErrClientGone) {
					t.Errorf("body reads as %q and ends with %v, then %v", s.text, s.err, s.again)
				}
				// Half-closed, the client may still read why.
				conn.expect(400, "cut")
				conn.closed()
			})
		}
	})
}

func TestAChunkedBodyIsReadWhereverItIsSplit(t *testing.T) {
	var seen bodySeen
	r := serve(t, func(x *exchange.Exchange) { seen = readAll(x); say(x, 200, "") })
	wire := "5\r\nhello\r\n00A;a=\"b;c\" ; d\r\n, wide wor\r\n2 ;x\r\nld\r\n000\r\nServer-Timing: a\r\nB: c\r\n\r\n"
	c := r.dial()
	for size := 1; size < len(wire); size++ {
		c.send("%s", chunkedHead)
		for from := 0; from < len(wire); from += size {
			c.send("%s", wire[from:min(from+size, len(wire))])
		}
		c.expect(200, "")
		if seen.text != "hello, wide world" || !errors.Is(seen.err, io.EOF) || !errors.Is(seen.again, io.EOF) {
			t.Fatalf("in pieces of %d: %q, %v", size, seen.text, seen.err)
		}
		if seen.trailers != "Server-Timing=a;B=c;" {
			t.Fatalf("in pieces of %d: trailers %q", size, seen.trailers)
		}
	}
}

func TestForbiddenTrailersAreDropped(t *testing.T) {
	var seen bodySeen
	r := serve(t, func(x *exchange.Exchange) { seen = readAll(x); say(x, 200, "") })
	r.dial().send("%s", chunkedHead+"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: a\r\n"+
		"Cookie: b\r\nX-Forwarded-For: c\r\nGuado-Page: d\r\nDigest: e\r\n\r\n").expect(200, "")
	if seen.trailers != "Digest=e;" {
		t.Errorf("trailers %q", seen.trailers)
	}
}

func TestABodyBeyondTheLimitIsRefused(t *testing.T) {
	var seen bodySeen
	r := serve(t, func(x *exchange.Exchange) {
		seen = readAll(x)
		if errors.Is(seen.err, exchange.ErrBodyTooLarge) {
			x.Fail(&exchange.Problem{Status: 413, Code: "too_large"})
			return
		}
		say(x, 200, "")
	}, limited(func(l *lane.Limits) { l.BodyBytes = 10 }))
	for name, body := range map[string]string{
		"chunked":             "6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n",
		"chunked, all in one": "b\r\n01234567890\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := r.dial().send("%s", chunkedHead+body).expect(413, "too_large"); !got.Close {
				t.Error("the answer does not say Connection: close")
			}
			if !errors.Is(seen.again, exchange.ErrBodyTooLarge) {
				t.Errorf("the error of the body changed to %v", seen.again)
			}
		})
	}
	r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890").expect(413, "body_too_large")
	r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789").expect(200, "")
	r.dial().send("%s", chunkedHead+"a\r\n0123456789\r\n0\r\n\r\n").expect(200, "")
}

func TestExpect100ContinueIsAnsweredByTheFirstRead(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		started, read := make(chan struct{}), make(chan struct{})
		r := serve(t, func(x *exchange.Exchange) {
			if !x.Expect {
				t.Error("the exchange does not tell of the expectation")
			}
			close(started)
			<-read
			echo(x)
		}, o)
		c := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
		<-started
		// Nothing may have been sent so far; the next bytes are the 100's.
		close(read)
		want := "HTTP/1.1 100 Continue\r\n\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
		c.send("hello").expect(200, "POST / hello")
	})
}

func TestNo100ContinueWhereNoneIsDue(t *testing.T) {
	r := serve(t, echo)
	for _, c := range []struct{ name, request, want string }{
		{"HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok", "POST / ok"},
		{"no body", "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n", "POST / "},
		{"body is there already", "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok", "POST / ok"},
		{"other expectation in HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: coffee\r\n\r\nok", "POST / ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := r.dial().send("%s", c.request)
			if got := conn.rest(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\n"+c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestExpect100ContinueWithAChunkedBody(t *testing.T) {
	r := serve(t, echo)
	c := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
	// The 100 itself never has a Transfer-Encoding.
	want := "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
	c.send("2\r\nok\r\n0\r\n\r\n").expect(200, "POST / ok")
}

func TestAFinalAnswerInsteadOf100ContinueClosesTheConnection(t *testing.T) {
	r := serve(t, func(x *exchange.Exchange) { say(x, 401, "who?") })
	c := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if got := c.expect(401, "who?"); !got.Close {
		t.Error("the answer does not say Connection: close")
	}
	// Whether the client sends the body now or not, no byte of it is taken for a head.
	c.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").finish().closed()
}

func TestASmallUnreadBodyIsDiscardedAndTheConnectionLivesOn(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, func(x *exchange.Exchange) { say(x, 200, "done") }, o)
		c := r.dial()
		for range 3 {
			c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").expect(200, "done")
			c.send("%s", strings.Repeat("x", 100000))
			c.send("%s", chunkedHead).expect(200, "done")
			c.send("5\r\nGET /\r\n0\r\n\r\n")
		}
	})
}

func TestALargeUnreadBodyClosesTheConnectionAndTheAnswerArrives(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, func(x *exchange.Exchange) { say(x, 200, "done") }, o)
		for name, head := range map[string]string{
			"length":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n",
			"chunked": chunkedHead + "1e8480\r\n",
		} {
			t.Run(name, func(t *testing.T) {
				c := r.dial().send("%s", head)
				// The client reads only after it has sent all, as many do.
				c.send("%s", strings.Repeat("x", 2000000))
				if got := c.expect(200, "done"); name == "length" && !got.Close {
					t.Error("the answer does not say Connection: close")
				}
				c.finish().closed()
			})
		}
	})
}

func TestALargeUploadIsReadWhole(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		var total, sum int
		r := serve(t, func(x *exchange.Exchange) {
			buf := make([]byte, 60000)
			total, sum = 0, 0
			for {
				n, err := x.Body.Read(buf)
				for _, c := range buf[:n] {
					sum += int(c)
				}
				total += n
				if err != nil {
					say(x, 200, err.Error())
					return
				}
			}
		}, o)
		const size = 3_000_000
		data := strings.Repeat("0123456789", size/10)
		want := 0
		for i := range data {
			want += int(data[i])
		}
		c := r.dial()
		c.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size).send("%s", data).expect(200, "EOF")
		if total != size || sum != want {
			t.Errorf("read %d bytes with sum %d, want %d and %d", total, sum, size, want)
		}
		c.send("%s", chunkedHead)
		for from := 0; from < size; from += 30000 {
			c.send("7530\r\n%s\r\n", data[from:from+30000])
		}
		c.send("0\r\n\r\n").expect(200, "EOF")
		if total != size || sum != want {
			t.Errorf("chunked: read %d bytes with sum %d, want %d and %d", total, sum, size, want)
		}
	})
}

func TestAnInterruptedReadReturnsAndTheConnectionLivesOn(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		var r *rig
		r = serve(t, func(x *exchange.Exchange) {
			read := make(chan error, 1)
			go func() {
				_, err := x.Body.Read(make([]byte, 10))
				read <- err
			}()
			if x.Method == "POST" { // else the two meet as they will
				until(t, "the body is being read", func() bool { return r.inPhase(readBody) == 1 })
			}
			x.Body.Interrupt()
			if err := <-read; !errors.Is(err, exchange.ErrInterrupted) {
				t.Errorf("the Read under way gave %v", err)
			}
			if _, err := x.Body.Read(make([]byte, 10)); !errors.Is(err, exchange.ErrInterrupted) {
				t.Errorf("the next Read gave %v", err)
			}
			say(x, 200, "done")
		}, o)
		c := r.dial()
		for range 20 {
			for _, method := range []string{"POST", "PUT"} {
				c.send("%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", method).expect(200, "done")
				c.send("hello")
			}
		}
	})
}

func TestNothingIsReadAfterAnInterruptionThoughItIsThere(t *testing.T) {
	r := serve(t, func(x *exchange.Exchange) {
		x.Body.Interrupt()
		if n, err := x.Body.Read(make([]byte, 10)); n > 0 || !errors.Is(err, exchange.ErrInterrupted) {
			t.Errorf("the Read gave %d bytes, %v", n, err)
		}
		say(x, 200, "done")
	})
	c := r.dial()
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").expect(200, "done")
	}
}

func TestABodyStreamsInWhileTheAnswerStreamsOut(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, func(x *exchange.Exchange) {
			pieces := make(chan string)
			go func() {
				defer close(pieces)
				buf := make([]byte, 100)
				for {
					n, err := x.Body.Read(buf)
					if err != nil {
						return
					}
					pieces <- string(buf[:n])
				}
			}()
			if err := x.Answer.Head(exchange.Head{Status: 200, Length: -1}); err != nil {
				t.Error(err)
			}
			for p := range pieces {
				_, _ = x.Answer.Write([]byte("<" + p + ">"))
				_ = x.Answer.Flush()
			}
		}, o)
		c := r.dial().send("%s", chunkedHead)
		for i := range 5 {
			c.send("1\r\n%d\r\n", i)
			want := fmt.Sprintf("3\r\n<%d>\r\n", i)
			got := ""
			for !strings.HasSuffix(got, want) {
				line, err := c.r.ReadString('\n')
				if err != nil {
					t.Fatalf("%v after %q", err, got)
				}
				got += line
			}
		}
		c.send("0\r\n\r\n")
		if line, err := c.r.ReadString('\n'); err != nil || line != "0\r\n" {
			t.Fatalf("answer ends with %q, %v", line, err)
		}
	})
}
