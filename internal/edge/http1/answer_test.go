package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// answering serves all requests with one function and keeps the errors it met.
func answering(t *testing.T, f func(a exchange.Answer) error, options ...option) (*rig, func() error) {
	errs := make(chan error, 100)
	r := serve(t, func(x *exchange.Exchange) { errs <- f(x.Answer) }, options...)
	return r, func() error { return <-errs }
}

func headOf(status int, length int64, fields ...string) exchange.Head {
	h := exchange.Head{Status: status, Length: length}
	for i := 0; i < len(fields); i += 2 {
		h.Fields = append(h.Fields, exchange.Field{Name: []byte(fields[i]), Value: []byte(fields[i+1])})
	}
	return h
}

// raw asks and gives the bytes of the answer, of which Date is taken out.
func (r *rig) raw(request string) string {
	got := r.dial().send("%s", request).finish().rest()
	before, after, found := strings.Cut(got, "Date: ")
	if !found {
		return got
	}
	date, after, _ := strings.Cut(after, "\r\n")
	if _, err := http.ParseTime(date); err != nil {
		r.t.Errorf("Date: %v", err)
	}
	return before + after
}

func TestAnswersAreFramedAsTheirRequestNeedsIt(t *testing.T) {
	const body = "hello"
	for _, c := range []struct {
		name, method, version string
		head                  exchange.Head
		want                  string
	}{
		{"known length", "GET", "1.1", headOf(200, 5, "A", "b"), "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello"},
		{"unknown length is chunked", "GET", "1.1", headOf(200, -1), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"unknown length in 1.0 ends with the connection", "GET", "1.0", headOf(200, -1), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"},
		{"known length in 1.0", "GET", "1.0", headOf(200, 5), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"},
		{"HEAD keeps the length, never a body", "HEAD", "1.1", headOf(200, 5), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"HEAD of unknown length", "HEAD", "1.1", headOf(200, -1), "HTTP/1.1 200 OK\r\n\r\n"},
		{"HEAD of unknown length in 1.0", "HEAD", "1.0", headOf(200, -1), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		{"204 has neither length nor body", "GET", "1.1", headOf(204, 5), "HTTP/1.1 204 No Content\r\n\r\n"},
		{"204 of unknown length", "GET", "1.1", headOf(204, -1), "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304 keeps the length, never a body", "GET", "1.1", headOf(304, 5), "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
		{"304 of unknown length", "GET", "1.1", headOf(304, -1), "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"205 has no body", "GET", "1.1", headOf(205, 5), "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"},
		{"more bytes than the length are cut", "GET", "1.1", headOf(200, 3), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhel"},
		{"length 0", "GET", "1.1", headOf(200, 0), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"unknown status", "GET", "1.1", headOf(299, 5), "HTTP/1.1 299 \r\nContent-Length: 5\r\n\r\nhello"},
		{"own reason", "GET", "1.1", exchange.Head{Status: 200, Reason: "Fine", Length: 5}, "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello"},
		{"fields of the connection from a step are left out", "GET", "1.1",
			headOf(200, 5, "Transfer-Encoding", "chunked", "content-length", "7", "Keep-Alive", "a", "Upgrade", "b", "Proxy-Connection", "c", "Connection", "x-a", "Set-Cookie", "a", "Set-Cookie", "b"),
			"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n\r\nhello"},
		{"Connection: close from a step is heeded", "GET", "1.1", headOf(200, 5, "connection", "Close"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, failed := answering(t, func(a exchange.Answer) error {
				if err := a.Head(c.head); err != nil {
					return err
				}
				n, err := a.Write([]byte(body))
				if n != len(body) {
					return fmt.Errorf("%d bytes written, %w", n, err)
				}
				return err
			})
			if got := r.raw(c.method + " / HTTP/" + c.version + "\r\nHost: x\r\n\r\n"); got != c.want {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
			if err := failed(); err != nil {
				t.Error(err)
			}
			if strings.Contains(c.name, "cut") && !strings.Contains(r.logged.String(), "longer than its declared length") {
				t.Error("nothing was logged")
			}
		})
	}
}

func TestAnApplicationsDateIsKept(t *testing.T) {
	r, _ := answering(t, func(a exchange.Answer) error { return a.Head(headOf(200, 0, "date", "then")) })
	if got := r.dial().send(get).finish().rest(); strings.Count(strings.ToLower(got), "date:") != 1 || !strings.Contains(got, "date: then") {
		t.Errorf("got %q", got)
	}
}

func TestHTTP10KeepsTheConnectionWhenAsked(t *testing.T) {
	r, _ := answering(t, func(a exchange.Answer) error { return a.Head(headOf(200, 0)) })
	c := r.dial()
	for range 3 {
		got := c.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").expect(200, "")
		if got.Header.Get("Connection") != "keep-alive" {
			t.Fatalf("Connection: %q", got.Header.Get("Connection"))
		}
	}
	c.send("GET / HTTP/1.0\r\n\r\n").expect(200, "")
	c.closed()
}

func TestTheConnectionEndsAfterItsNumberOfRequests(t *testing.T) {
	r := serve(t, echo, limited(func(l *lane.Limits) { l.RequestsPerKA = 2 }))
	c := r.dial()
	c.send(get).expect(200, "GET / ")
	if got := c.send(get).expect(200, "GET / "); !got.Close {
		t.Error("the answer does not say Connection: close")
	}
	c.closed()
}

func TestAnAnswerShorterThanItsLengthCutsTheConnection(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r, _ := answering(t, func(a exchange.Answer) error {
			if err := a.Head(headOf(200, 10)); err != nil {
				return err
			}
			_, err := a.Write([]byte("hello"))
			return err
		}, o)
		if got := r.dial().send(get).answer("GET"); !errors.Is(got.err, io.ErrUnexpectedEOF) || got.body != "hello" {
			t.Errorf("the client reads %q, %v", got.body, got.err)
		}
		if rep := r.done(); rep.Err == nil || rep.BytesOut != 5 {
			t.Errorf("reported as %+v", rep)
		}
		if !strings.Contains(r.logged.String(), "shorter than its declared length") {
			t.Error("nothing was logged")
		}
	})
}

func TestAnAbortedAnswerCannotBeTakenForAComplete(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		abort := errors.New("worker died")
		r, _ := answering(t, func(a exchange.Answer) error {
			if err := a.Head(headOf(200, -1)); err != nil {
				return err
			}
			if _, err := a.Write([]byte("hello")); err != nil {
				return err
			}
			if err := a.Flush(); err != nil {
				return err
			}
			a.Abort(abort)
			if _, err := a.Write([]byte("more")); err == nil {
				t.Error("writing goes on after Abort")
			}
			return nil
		}, o)
		if got := r.dial().send(get).answer("GET"); got.err == nil {
			t.Errorf("chunked: the client reads a complete %q", got.body)
		}
		if rep := r.done(); !errors.Is(rep.Err, abort) || rep.Status != 200 {
			t.Errorf("reported as %+v", rep)
		}
		if r.addr.Network() == "unix" {
			return // a Unix socket knows no reset
		}
		if got := r.dial().send("GET / HTTP/1.0\r\n\r\n").answer("GET"); got.err == nil {
			t.Errorf("HTTP/1.0: the client reads a complete %q", got.body)
		}
	})
}

func TestAHeadThatCannotBeSentLeavesRoomForAnother(t *testing.T) {
	r := serve(t, func(x *exchange.Exchange) {
		if err := x.Answer.Head(headOf(200, 0, "A", "b\r\nSet-Cookie: c")); err == nil {
			t.Error("a line break in a field was let through")
		}
		if err := x.Answer.Head(headOf(101, 0)); err == nil {
			t.Error("101 was taken for a final answer")
		}
		if _, err := x.Answer.Write([]byte("a")); err == nil {
			t.Error("a body without a head was let through")
		}
		x.Fail(&exchange.Problem{Status: 502, Code: "bad"})
		if err := x.Answer.Head(headOf(200, 0)); err == nil {
			t.Error("a second head was let through")
		}
	})
	r.dial().send(get).expect(502, "bad")
}

func TestTrailersGoToClientsThatReadThem(t *testing.T) {
	trailers := headOf(0, 0, "Digest", "abc", "Content-Length", "5", "Set-Cookie", "a").Fields
	r, failed := answering(t, func(a exchange.Answer) error {
		if err := a.Head(headOf(200, -1, "Trailer", "Digest")); err != nil {
			return err
		}
		if _, err := a.Write([]byte("hello")); err != nil {
			return err
		}
		return a.Trailers(trailers)
	})
	with := "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n"
	c := r.dial()
	got := c.send("%s", with).expect(200, "hello")
	if len(got.Trailer) != 1 || got.Trailer.Get("Digest") != "abc" {
		t.Errorf("trailers %v", got.Trailer)
	}
	if got = c.send(get).expect(200, "hello"); got.Trailer.Get("Digest") != "" {
		t.Errorf("a client that did not ask for trailers got %v", got.Trailer)
	}
	for range 2 {
		if err := failed(); err != nil {
			t.Error(err)
		}
	}
	if got := r.raw("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n"); !strings.HasSuffix(got, "\r\n\r\nhello") {
		t.Errorf("HTTP/1.0 got %q", got)
	}
}

func TestInformationalAnswersGoOutAtOnce(t *testing.T) {
	seen := make(chan struct{})
	r, failed := answering(t, func(a exchange.Answer) error {
		if err := a.Informational(103, headOf(0, 0, "Link", "</a.css>; rel=preload", "Content-Length", "3").Fields); err != nil {
			return err
		}
		if err := a.Informational(100, nil); err != nil {
			return err // and not sent: nobody waits for it
		}
		<-seen
		if err := a.Head(headOf(200, 0)); err != nil {
			return err
		}
		if a.Informational(103, nil) == nil {
			return errors.New("an interim answer after the final one was let through")
		}
		return nil
	})
	c := r.dial().send(get)
	want := "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
	close(seen)
	c.expect(200, "")
	if err := failed(); err != nil {
		t.Error(err)
	}
	// Never to HTTP/1.0.
	if got := r.raw("GET / HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("HTTP/1.0 got %q", got)
	}
}

func TestLargeAnswersArriveWhole(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 70000) // over a megabyte
	everywhere(t, func(t *testing.T, o option) {
		for _, length := range []int64{int64(len(data)), -1} {
			for _, size := range []int{100, 1000, 5000, 40000, len(data)} {
				part := data[:min(len(data), size*300)]
				want := min(length, int64(len(part)))
				r, failed := answering(t, func(a exchange.Answer) error {
					if err := a.Head(headOf(200, want)); err != nil {
						return err
					}
					for rest := part; len(rest) > 0; rest = rest[min(size, len(rest)):] {
						if _, err := a.Write(rest[:min(size, len(rest))]); err != nil {
							return err
						}
					}
					return nil
				}, o)
				if got := r.dial().send(get).answer("GET"); got.err != nil || got.body != string(part) {
					t.Fatalf("length %d in pieces of %d: %d bytes of %d, %v", length, size, len(got.body), len(part), got.err)
				}
				if err := failed(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func TestFilesAreSentFromTheirOffset(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 70000)
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	// The file's own offset is somebody else's; it must neither matter nor move.
	if _, err := f.Seek(77, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	everywhere(t, func(t *testing.T, o option) {
		for _, length := range []int64{0, -1} {
			for _, c := range []struct{ offset, count int64 }{{0, int64(len(data))}, {5, 10}, {100, 1000}, {3, 10000}, {1, int64(len(data)) - 1}, {9, 0}} {
				want := "<" + string(data[c.offset:c.offset+c.count]) + ">"
				declared := length
				if declared == 0 {
					declared = int64(len(want))
				}
				r, failed := answering(t, func(a exchange.Answer) error {
					if err := a.Head(headOf(200, declared)); err != nil {
						return err
					}
					if _, err := a.Write([]byte("<")); err != nil {
						return err
					}
					if err := a.File(f, c.offset, c.count); err != nil {
						return err
					}
					_, err := a.Write([]byte(">"))
					return err
				}, o)
				if got := r.dial().send(get).answer("GET"); got.err != nil || got.body != want {
					t.Fatalf("length %d, %+v: %d bytes, %v", declared, c, len(got.body), got.err)
				}
				if err := failed(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 77 {
		t.Errorf("the file's offset moved to %d, %v", at, err)
	}
}

func TestAFileShorterThanPromisedCutsTheConnection(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(make([]byte, 10000)); err != nil {
		t.Fatal(err)
	}
	everywhere(t, func(t *testing.T, o option) {
		for _, length := range []int64{20000, -1} {
			r, failed := answering(t, func(a exchange.Answer) error {
				if err := a.Head(headOf(200, length)); err != nil {
					return err
				}
				return a.File(f, 0, 20000)
			}, o)
			c := r.dial().send(get)
			if res, err := http.ReadResponse(c.r, nil); err == nil {
				if _, err = io.Copy(io.Discard, res.Body); err == nil {
					t.Errorf("length %d: the client reads a complete answer", length)
				}
			}
			if err := failed(); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the step is told %v", err)
			}
		}
	})
}

func TestAFileBeyondTheDeclaredLengthIsCut(t *testing.T) {
	f, err := os.Open("answer_test.go")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, failed := answering(t, func(a exchange.Answer) error {
		if err := a.Head(headOf(200, 7)); err != nil {
			return err
		}
		return a.File(f, 0, 5000)
	})
	c := r.dial()
	for range 2 {
		c.send(get).expect(200, "package")
		if err := failed(); err != nil {
			t.Error(err)
		}
	}
}

func TestAConnectionThatAsksForItLeavesHTTP(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		left := make(chan net.Conn, 1)
		r := serve(t, func(x *exchange.Exchange) {
			c, buffered, err := x.Answer.(exchange.Hijacker).Hijack()
			if err != nil {
				say(x, 400, err.Error())
				return
			}
			if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n[%s]", buffered); err != nil {
				t.Error(err)
			}
			left <- c
		}, o)
		c := r.dial().send("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
		own := <-left
		if rep := r.done(); rep.Status != 101 {
			t.Errorf("reported as %+v", rep)
		}
		until(t, "the connection is no longer the server's", func() bool { return r.Connections() == 0 })
		r.Drain()
		r.CloseAll()
		// It works on in both directions, beyond the life of the server.
		buf := make([]byte, 4)
		c.send("ping")
		if _, err := io.ReadFull(own, buf); err != nil || string(buf) != "ping" {
			t.Fatalf("got %q, %v", buf, err)
		}
		if err := own.Close(); err != nil {
			t.Error(err)
		}
		if got := c.rest(); !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.HasSuffix(got, "[early]") {
			t.Errorf("got %q", got)
		}
	})
}

func TestOnlyAConnectionThatAsksForItMayLeaveHTTP(t *testing.T) {
	r := serve(t, func(x *exchange.Exchange) {
		if _, _, err := x.Answer.(exchange.Hijacker).Hijack(); err == nil {
			t.Error("the connection was given away")
		}
		say(x, 200, "no")
	})
	c := r.dial()
	c.send(get).expect(200, "no")
	c.send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n").expect(200, "no")
	c.send("POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\na").expect(200, "no")
}

func TestAHandlersDeadlinesHoldForOneExchange(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, func(x *exchange.Exchange) {
			if string(x.Target) == "/" {
				echo(x)
				return
			}
			if err := x.Answer.(exchange.Deadliner).SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			_, err := x.Body.Read(make([]byte, 1))
			if string(x.Target) == "/no-body" {
				say(x, 200, "")
				return
			}
			if !errors.Is(err, exchange.ErrSlowClient) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading beyond the deadline gave %v", err)
			}
			say(x, 408, "slow")
		}, o)
		c := r.dial()
		c.send("POST /dl HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n").expect(408, "slow")
		c.closed()
		c = r.dial()
		c.send("GET /no-body HTTP/1.1\r\nHost: x\r\n\r\n").expect(200, "")
		set := time.Now()
		until(t, "the deadline is over", func() bool { return time.Since(set) > 50*time.Millisecond })
		c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n").send("ok").expect(200, "POST / ok")
	})
}
