package websocket_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/websocket"
)

func everyTransport(t *testing.T, body func(t *testing.T, options ...func(*rig))) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { body(t) })
	t.Run("tls", func(t *testing.T) { body(t, overTLS) })
}

func TestMessagesOfEveryLengthAreEchoed(t *testing.T) {
	everyTransport(t, func(t *testing.T, options ...func(*rig)) {
		r := start(t, websocket.Policy{Limits: limits()}, options...)
		c := r.dial()
		for _, n := range []int{0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 1 << 20} {
			p := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
			c.write(ws.NewBinaryFrame(p))
			if f := c.read(); f.Header.OpCode != ws.OpBinary || !f.Header.Fin || !bytes.Equal(f.Payload, p) {
				t.Fatalf("%d bytes came back as %v of %d", n, f.Header, len(f.Payload))
			}
		}
		c.write(ws.NewCloseFrame(ws.NewCloseFrameBody(4321, "bye")))
		c.wantClose(4321)
		if e := r.wantEnd(4321); e.Reason != "bye" {
			t.Errorf("reason %q", e.Reason)
		}
	})
}

func TestFragmentsWithPingsBetweenThemAreOneMessage(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits()})
	c := r.dial()
	c.write(ws.NewFrame(ws.OpText, false, []byte("one ")))
	c.write(ws.NewPingFrame([]byte("are you there")))
	c.write(ws.NewFrame(ws.OpContinuation, false, nil))
	c.write(ws.NewFrame(ws.OpContinuation, true, []byte("two")))
	if f := c.read(); f.Header.OpCode != ws.OpPong || string(f.Payload) != "are you there" {
		t.Fatalf("got %v %q, want the pong first", f.Header.OpCode, f.Payload)
	}
	c.want("one two")
}

func TestFramesThatComeBehindTheHandshakeInOnePacketAreNotLost(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits()})
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	for i := range 300 {
		if err := ws.WriteFrame(&b, ws.MaskFrame(ws.NewTextFrame(fmt.Appendf(nil, "message %d", i)))); err != nil {
			t.Fatal(err)
		}
	}
	c := r.raw()
	if _, err := c.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	if got := resp.Header.Get("Sec-Websocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("Sec-WebSocket-Accept %q is not that of RFC 6455", got)
	}
	if resp.Header.Get("X-Own") != "1" {
		t.Error("the field of the handler is missing")
	}
	for i := range 300 {
		c.want(fmt.Sprintf("message %d", i))
	}
}

func TestWhatBreaksTheProtocolIsRefusedWithItsCode(t *testing.T) {
	l := limits()
	l.Message, l.Fragments = 1000, 3
	masked := func(f ws.Frame) func(c *client) { return func(c *client) { c.write(f) } }
	rsv := ws.NewTextFrame([]byte("x"))
	rsv.Header.Rsv = ws.Rsv(true, false, false)
	for name, it := range map[string]struct {
		send func(c *client)
		code int
	}{
		"frame without a mask":    {func(c *client) { _ = ws.WriteFrame(c.Conn, ws.NewTextFrame([]byte("x"))) }, 1002},
		"reserved bit":            {masked(rsv), 1002},
		"reserved opcode":         {masked(ws.NewFrame(3, true, nil)), 1002},
		"continuation of nothing": {masked(ws.NewFrame(ws.OpContinuation, true, nil)), 1002},
		"message inside another": {func(c *client) {
			c.write(ws.NewFrame(ws.OpText, false, nil))
			c.write(ws.NewTextFrame(nil))
		}, 1002},
		"ping in parts":       {masked(ws.NewFrame(ws.OpPing, false, nil)), 1002},
		"long ping":           {masked(ws.NewPingFrame(make([]byte, 126))), 1002},
		"close of one byte":   {masked(ws.NewCloseFrame([]byte{3})), 1002},
		"close with 1005":     {masked(ws.NewCloseFrame([]byte{1005 >> 8, 1005 & 0xff})), 1002},
		"close with 2999":     {masked(ws.NewCloseFrame([]byte{2999 >> 8, 2999 & 0xff})), 1002},
		"close, not UTF-8":    {masked(ws.NewCloseFrame([]byte{1000 >> 8, 1000 & 0xff, 0xff})), 1002},
		"text, not UTF-8":     {masked(ws.NewTextFrame([]byte{'a', 0xc0, 0xaf})), 1007},
		"text, cut character": {masked(ws.NewTextFrame([]byte("é")[:1])), 1007},
		"surrogate in parts": {func(c *client) {
			c.write(ws.NewFrame(ws.OpText, false, []byte{0xed}))
			c.write(ws.NewFrame(ws.OpContinuation, false, []byte{0xa0}))
		}, 1007},
		"too long at once": {masked(ws.NewBinaryFrame(make([]byte, 1001))), 1009},
		"too long in parts": {func(c *client) {
			c.write(ws.NewFrame(ws.OpBinary, false, make([]byte, 999)))
			c.write(ws.NewFrame(ws.OpContinuation, true, make([]byte, 2)))
		}, 1009},
		"announced and not sent": {func(c *client) {
			_, _ = c.Write([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
		}, 1009},
		"length with its first bit": {func(c *client) {
			_, _ = c.Write([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
		}, 1002},
		"too many parts": {func(c *client) {
			for i := range 4 {
				op := ws.OpContinuation
				if i == 0 {
					op = ws.OpText
				}
				c.write(ws.NewFrame(op, false, []byte("a")))
			}
		}, 1008},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, websocket.Policy{Limits: l})
			c := r.dial()
			it.send(c)
			c.wantClose(it.code)
			if e := r.wantEnd(1006); e.Err == nil {
				t.Error("the log is not told why")
			}
		})
	}
}

func TestACharacterCutByAFrameOrAPacketIsNoError(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits()})
	c := r.dial()
	text := "a€𝄞é"
	for i := range len(text) {
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpText
		}
		c.write(ws.NewFrame(op, i == len(text)-1, []byte(text)[i:i+1]))
	}
	c.want(text)
	// One frame, byte by byte.
	var b bytes.Buffer
	if err := ws.WriteFrame(&b, ws.MaskFrame(ws.NewTextFrame([]byte(text)))); err != nil {
		t.Fatal(err)
	}
	for _, one := range b.Bytes() {
		if _, err := c.Write([]byte{one}); err != nil {
			t.Fatal(err)
		}
	}
	c.want(text)
}

func TestOnlyPagesOfThisHostOrOfTheListMayOpenASocket(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits(), Origins: []string{"https://app.example.org", "https://*.example.net", "http://plain.example.org:8080"}})
	for origin, allowed := range map[string]bool{
		"":                              true,
		"http://" + r.addr:              true,
		"https://" + r.addr:             true, // TLS ended in front of us
		"http://evil.example":           false,
		"http://" + r.addr + ".evil":    false,
		"https://app.example.org":       true,
		"https://app.example.org:443":   true,
		"http://app.example.org":        false,
		"https://a.b.example.net":       true,
		"https://example.net":           false,
		"https://evilexample.net":       false,
		"http://plain.example.org:8080": true,
		"http://plain.example.org":      false,
		"null":                          false,
		"file://":                       false,
	} {
		var fields []string
		if origin != "" {
			fields = append(fields, "Origin: "+origin)
		}
		c, err := r.try(fields...)
		if (err == nil) != allowed {
			t.Errorf("origin %q: %v, want allowed %v", origin, err, allowed)
		}
		if c != nil {
			_ = c.Close()
		}
	}
	everybody := start(t, websocket.Policy{Limits: limits(), Origins: []string{"*"}})
	everybody.dial("Origin: http://evil.example")
}

func TestHandshakesThatAreNoneAreRefused(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits()})
	const key, version = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
	for name, it := range map[string]struct {
		head   string
		status int
	}{
		"no key":           {"GET / HTTP/1.1|" + version, 400},
		"short key":        {"GET / HTTP/1.1|Sec-WebSocket-Key: YWJj|" + version, 400},
		"another version":  {"GET / HTTP/1.1|Sec-WebSocket-Version: 8|" + key, 426},
		"no version":       {"GET / HTTP/1.1|" + key, 426},
		"POST":             {"POST / HTTP/1.1|Content-Length: 0|" + key + "|" + version, 400},
		"with a body":      {"GET / HTTP/1.1|Content-Length: 1|" + key + "|" + version, 400},
		"another protocol": {"GET / HTTP/1.1|X: y", 404},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.raw()
			upgrade := "\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nx"
			if name == "another protocol" {
				upgrade = strings.Replace(upgrade, "websocket", "h2c", 1)
			}
			if _, err := c.Write([]byte(strings.ReplaceAll(it.head, "|", "\r\n") + upgrade)); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != it.status {
				t.Errorf("status %d, want %d", resp.StatusCode, it.status)
			}
			if it.status == 426 && resp.Header.Get("Sec-Websocket-Version") != "13" {
				t.Error("426 does not name the version")
			}
		})
	}
}

func TestACapOfSocketsIsKeptAndGivenBack(t *testing.T) {
	for name, l := range map[string]func(*websocket.Limits){
		"in all":      func(l *websocket.Limits) { l.Total = 2 },
		"per address": func(l *websocket.Limits) { l.PerAddress = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			limits := limits()
			l(&limits)
			r := start(t, websocket.Policy{Limits: limits})
			first := r.dial()
			r.dial()
			if _, err := r.try(); err == nil {
				t.Fatal("a third one was let in")
			}
			if s := r.sockets.Status(); s.Open != 2 || s.Refused != 1 {
				t.Errorf("%+v", s)
			}
			_ = first.Close()
			r.wantEnd(1006)
			for until := time.Now().Add(patience); r.sockets.Status().Open > 1; {
				if time.Now().After(until) {
					t.Fatal("the place was not given back")
				}
			}
			r.dial()
		})
	}
}

func TestTheServersCloseIsAnsweredAndDropsWhatComesMeanwhile(t *testing.T) {
	everyTransport(t, func(t *testing.T, options ...func(*rig)) {
		r := start(t, websocket.Policy{Limits: limits()}, options...)
		c := r.dial()
		k := <-r.opened
		k.Close(4000, strings.Repeat("é", 100))
		if _, err := k.Send(true, []byte("late"), true); err == nil {
			t.Error("a closed socket takes messages")
		}
		c.text("crossed") // must not be echoed
		f := c.read()
		code, reason := ws.ParseCloseFrameData(f.Payload)
		if f.Header.OpCode != ws.OpClose || code != 4000 || reason != strings.Repeat("é", 61) {
			t.Fatalf("%v %d %q", f.Header.OpCode, code, reason)
		}
		c.write(ws.NewCloseFrame(ws.NewCloseFrameBody(4000, "")))
		r.wantEnd(4000)
		if n, err := c.br.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("the connection did not end")
		}
	})
}

func TestAClientThatDoesNotAnswerACloseIsCut(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits()})
	c := r.dial()
	(<-r.opened).Close(1000, "")
	if f := c.read(); f.Header.OpCode != ws.OpClose {
		t.Fatal(f)
	}
	if e := r.wantEnd(1006); e.Err == nil {
		t.Error("no reason")
	}
}

func TestAClientWithoutASignOfLifeIsCutAndOneThatAnswersIsNot(t *testing.T) {
	l := limits()
	l.PingInterval, l.PingTimeout = 500*time.Millisecond, 500*time.Millisecond
	r := start(t, websocket.Policy{Limits: l})
	c := r.dial()
	for range 3 {
		f := c.read()
		if f.Header.OpCode != ws.OpPing {
			t.Fatal(f.Header.OpCode)
		}
		c.write(ws.NewPongFrame(f.Payload))
	}
	// From here on it is silent.
	r.wantEnd(1006)
	if s := r.sockets.Status(); s.Silent != 1 {
		t.Errorf("%+v", s)
	}
}

func TestASlowReaderIsCutByBytesAndHoldsNobodyUp(t *testing.T) {
	everyTransport(t, func(t *testing.T, options ...func(*rig)) {
		l := limits()
		l.Waiting = 256 << 10
		r := start(t, websocket.Policy{Limits: l}, options...)
		r.dial()
		k := <-r.opened
		p := make([]byte, 64<<10)
		began := time.Now()
		for {
			if _, err := k.Send(false, p, true); err != nil {
				break
			}
			if time.Since(began) > patience {
				t.Fatal("it is never cut")
			}
		}
		e := r.wantEnd(1006)
		if e.Err == nil || !strings.Contains(e.Err.Error(), exchange.ErrSlowReader.Error()) {
			t.Errorf("%v", e.Err)
		}
		if s := r.sockets.Status(); s.Slow != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatWaitsReachesAClientThatReadsAgain(t *testing.T) {
	everyTransport(t, func(t *testing.T, options ...func(*rig)) {
		l := limits()
		l.Waiting = 64 << 20
		r := start(t, websocket.Policy{Limits: l}, options...)
		c := r.dial()
		k := <-r.opened
		const count = 300
		for i := range count {
			if _, err := k.Send(true, fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 50_000)), true); err != nil {
				t.Fatal(err)
			}
		}
		k.Close(1000, "")
		for i := range count {
			if f := c.read(); !strings.HasPrefix(string(f.Payload), fmt.Sprintf("%d x", i)) || len(f.Payload) < 50_000 {
				t.Fatalf("message %d: %.20q of %d", i, f.Payload, len(f.Payload))
			}
		}
		if f := c.read(); f.Header.OpCode != ws.OpClose {
			t.Fatal(f.Header)
		}
	})
}

func TestCompressionIsOfferedOnlyWhereItIsOn(t *testing.T) {
	off := start(t, websocket.Policy{Limits: limits()})
	if c := off.dial("Sec-WebSocket-Extensions: permessage-deflate"); len(c.hs.Extensions) != 0 {
		t.Error("an extension was taken")
	}
	l := limits()
	l.Compression, l.CompressionMin, l.Message = true, 100, 100_000
	r := start(t, websocket.Policy{Limits: l})
	c := r.raw()
	c.handshake("Sec-WebSocket-Extensions: x-unknown, permessage-deflate; server_max_window_bits=99, permessage-deflate; client_max_window_bits")
	long := strings.Repeat("long and dull ", 1000)
	packed, err := wsflate.CompressFrame(ws.NewTextFrame([]byte(long)))
	if err != nil {
		t.Fatal(err)
	}
	c.write(packed)
	f := c.read()
	if f.Header.Rsv != ws.Rsv(true, false, false) || len(f.Payload) > 1000 {
		t.Fatalf("%v, %d bytes: it was not compressed", f.Header, len(f.Payload))
	}
	if f, err = wsflate.DecompressFrame(f); err != nil || string(f.Payload) != long {
		t.Fatalf("%v: %d bytes came back", err, len(f.Payload))
	}
	c.text("short")
	c.want("short")
	// Ten megabytes of zeros in ten kilobytes.
	var bomb bytes.Buffer
	w, _ := flate.NewWriter(&bomb, 9)
	_, _ = w.Write(make([]byte, 10<<20))
	_ = w.Flush()
	b := ws.NewBinaryFrame(bytes.TrimSuffix(bomb.Bytes(), []byte{0, 0, 0xff, 0xff}))
	b.Header.Rsv = ws.Rsv(true, false, false)
	c.write(b)
	c.wantClose(1009)
}

func TestPartsOfAMessageAreCompressedAsOne(t *testing.T) {
	l := limits()
	l.Compression = true
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; server_max_window_bits=9"} {
		r := start(t, websocket.Policy{Limits: l})
		c := r.raw()
		c.handshake("Sec-WebSocket-Extensions: " + offer)
		k := <-r.opened
		want := ""
		for i := range 5 {
			part := strings.Repeat(fmt.Sprint(i), 5000)
			want += part
			if _, err := k.Send(true, []byte(part), i == 4); err != nil {
				t.Fatal(err)
			}
		}
		var whole ws.Frame
		for i := range 5 {
			f := c.read()
			if (f.Header.Rsv != 0) != (i == 0) || f.Header.Fin != (i == 4) {
				t.Fatalf("part %d: %+v", i, f.Header)
			}
			whole.Payload = append(whole.Payload, f.Payload...)
		}
		whole.Header = ws.Header{Fin: true, OpCode: ws.OpText, Rsv: ws.Rsv(true, false, false), Length: int64(len(whole.Payload))}
		f, err := wsflate.DecompressFrame(whole)
		if err != nil || string(f.Payload) != want {
			t.Fatalf("%v: %d bytes, want %d", err, len(f.Payload), len(want))
		}
	}
}

func TestAPreparedMessageReachesThoseWhoTakeItPackedAndThoseWhoDoNot(t *testing.T) {
	l := limits()
	l.Compression = true
	r := start(t, websocket.Policy{Limits: l})
	c, plain := r.raw(), r.dial()
	k := <-r.opened
	c.handshake("Sec-WebSocket-Extensions: permessage-deflate")
	text := strings.Repeat("to all of you ", 100)
	m, err := websocket.Prepare(true, []byte(text), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []exchange.Socket{k, <-r.opened} {
		if _, err := k.(*websocket.Socket).SendPrepared(m); err != nil {
			t.Fatal(err)
		}
	}
	plain.want(text)
	f, err := wsflate.DecompressFrame(c.read())
	if err != nil || string(f.Payload) != text {
		t.Fatal(err)
	}
}

func TestADrainClosesAllWith1012AndLetsNobodyIn(t *testing.T) {
	r := start(t, websocket.Policy{Limits: limits()})
	c := r.dial()
	r.sockets.Drain()
	c.wantClose(1012)
	if _, err := r.try(); err == nil {
		t.Error("a new one was let in")
	}
}
