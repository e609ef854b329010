package edge

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/exchange"
)

const hexDigits = "0123456789abcdef"

// appendCombined makes a line as Apache and nginx do: address, time, request line,
// status, bytes, Referer, User-Agent.
func appendCombined(s *lastLine, b []byte, x *exchange.Exchange, out exchange.Outcome) []byte {
	if x.Client.IsValid() {
		b = s.appendAddress(b, x.Client.Addr())
	} else {
		b = append(b, '-')
	}
	b = append(b, " - "...)
	if x.User != "" {
		b = appendQuoted(b, x.User)
	} else {
		b = append(b, '-')
	}
	b = append(b, " ["...)
	b = s.append(b, received(x, out.At))
	b = append(b, `] "`...)
	if x.Method != "" {
		b = appendQuoted(b, x.Method)
		b = append(b, ' ')
		b = appendQuoted(b, x.Target)
		b = append(b, ' ')
		b = append(b, x.Version.String()...)
	} else {
		b = append(b, '-')
	}
	b = append(b, `" `...)
	if s := out.Status; s >= 100 && s < 1000 {
		b = append(b, '0'+byte(s/100), '0'+byte(s/10%10), '0'+byte(s%10), ' ')
	} else {
		b = append(strconv.AppendInt(b, int64(s), 10), ' ')
	}
	b = strconv.AppendInt(b, out.BytesOut, 10)
	for _, name := range []string{"referer", "user-agent"} {
		b = append(b, ` "`...)
		if v := x.Field(name); len(v) > 0 {
			b = appendQuoted(b, v)
		} else {
			b = append(b, '-')
		}
		b = append(b, '"')
	}
	return append(b, '\n')
}

// appendExtended is the combined line with what combined has no place for, as NAME=VALUE
// in seconds; "-" where there is none.
func appendExtended(s *lastLine, b []byte, x *exchange.Exchange, out exchange.Outcome) []byte {
	b = appendCombined(s, b, x, out)
	b = b[:len(b)-1]
	b = appendPlace(b, " id=", x.ID)
	if x.App != s.app || x.Worker != s.worker || len(s.place) == 0 {
		s.app, s.worker = x.App, x.Worker
		s.place = appendPlace(appendPlace(s.place[:0], " app=", x.App), " worker=", x.Worker)
	}
	b = append(b, s.place...)
	b = appendSeconds(b, " time=", out.At.Sub(received(x, out.At)))
	b = appendSeconds(b, " queue=", x.Waited)
	b = appendSeconds(b, " work=", x.Worked)
	return append(b, '\n')
}

func appendPlace(b []byte, name, value string) []byte {
	b = append(b, name...)
	if value == "" {
		return append(b, '-')
	}
	return appendWord(b, value)
}

// appendSeconds writes its digits itself: most are zeros, and strconv was a quarter of a
// line's price.
func appendSeconds(b []byte, name string, d time.Duration) []byte {
	const million = 1_000_000
	b = append(b, name...)
	us := uint64(max(d.Microseconds(), 0)) // a clock that was set back
	if us >= million {
		b = strconv.AppendUint(b, us/million, 10)
		us %= million
	} else {
		b = append(b, '0')
	}
	digits := [7]byte{'.', '0', '0', '0', '0', '0', '0'}
	for i := len(digits) - 1; us > 0; i-- {
		digits[i] = '0' + byte(us%10)
		us /= 10
	}
	return append(b, digits[:]...)
}

// lastLine is what the last line said: the next one often says the same. Formatting it anew
// was half of a line's price.
type lastLine struct {
	second int64
	text   []byte // of second

	client  netip.Addr
	address []byte // of client

	app, worker string
	place       []byte // of both
}

func (s *lastLine) append(b []byte, t time.Time) []byte {
	if second := t.Unix(); second != s.second || len(s.text) == 0 {
		s.second = second
		s.text = t.AppendFormat(s.text[:0], "02/Jan/2006:15:04:05 -0700")
	}
	return append(b, s.text...)
}

func (s *lastLine) appendAddress(b []byte, client netip.Addr) []byte {
	if client != s.client {
		s.client, s.address = client, client.AppendTo(s.address[:0])
	}
	return append(b, s.address...)
}

// appendWord escapes as appendQuoted does, and spaces too: a name is one word.
func appendWord(b []byte, word string) []byte {
	for {
		i := strings.IndexByte(word, ' ')
		if i < 0 {
			return appendQuoted(b, word)
		}
		b = append(appendQuoted(b, word[:i]), `\x20`...)
		word = word[i+1:]
	}
}

func received(x *exchange.Exchange, now time.Time) time.Time {
	if x.Received.IsZero() {
		return now
	}
	return x.Received
}

// appendQuoted escapes what would end the quotes or the line, or move a terminal.
func appendQuoted[T string | []byte](b []byte, v T) []byte {
	clean := 0 // from here on nothing needs an escape
	for i := range len(v) {
		if c := v[i]; escaped[c] {
			b = append(append(b, v[clean:i]...), '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			clean = i + 1
		}
	}
	return append(b, v[clean:]...)
}

var escaped = func() (t [256]bool) {
	for c := range t {
		t[c] = c < ' ' || c >= 0x7f || c == '"' || c == '\\'
	}
	return t
}()

// appendJSON makes one object. Fields of the request other than these two never get
// into the log: some of them are secrets.
func appendJSON(_ *lastLine, b []byte, x *exchange.Exchange, out exchange.Outcome) []byte {
	start := received(x, out.At)
	b = append(b, `{"time":"`...)
	b = start.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	b = append(b, '"')
	b = appendPair(b, "request_id", x.ID)
	if len(x.TraceParent) == traceLength {
		b = appendPair(b, "trace_id", x.TraceParent[3:35])
	}
	if x.Client.IsValid() {
		b = append(b, `,"client":"`...)
		b = x.Client.Addr().AppendTo(b)
		b = append(b, '"')
		if x.Client.Addr() != x.Peer && x.Peer.IsValid() {
			b = append(b, `,"peer":"`...)
			b = x.Peer.AppendTo(b)
			b = append(b, '"')
		}
	}
	b = appendPair(b, "user", x.User)
	if x.Method != "" {
		b = appendPair(b, "protocol", x.Version.String())
		b = appendPair(b, "method", x.Method)
		b = appendPair(b, "scheme", x.Scheme)
		b = appendPair(b, "host", x.Host)
		b = appendPair(b, "target", x.Target)
	}
	b = appendNumber(b, "status", int64(out.Status))
	b = appendNumber(b, "bytes_in", out.BytesIn)
	b = appendNumber(b, "bytes_out", out.BytesOut)
	b = appendMillis(b, "duration_ms", out.At.Sub(start))
	if x.Waited > 0 {
		b = appendMillis(b, "waited_ms", x.Waited)
	}
	if x.Worked > 0 {
		b = appendMillis(b, "worked_ms", x.Worked)
	}
	b = appendPair(b, "app", x.App)
	b = appendPair(b, "worker", x.Worker)
	if x.Problem != nil {
		b = appendPair(b, "problem", x.Problem.Code)
		if x.Problem.Err != nil {
			b = appendPair(b, "error", x.Problem.Err.Error())
		}
	} else if out.Err != nil {
		b = appendPair(b, "error", out.Err.Error())
	}
	b = appendPair(b, "referer", x.Field("referer"))
	b = appendPair(b, "user_agent", x.Field("user-agent"))
	return append(b, '}', '\n')
}

// appendPair leaves empty values out.
func appendPair[T string | []byte](b []byte, name string, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

func appendNumber(b []byte, name string, n int64) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, n, 10)
}

func appendMillis(b []byte, name string, d time.Duration) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendFloat(b, float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// appendString quotes as JSON wants it. Bytes that are no UTF-8 become U+FFFD.
func appendString[T string | []byte](b []byte, value T) []byte {
	b = append(b, '"')
	for i := 0; i < len(value); {
		c := value[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < ' ' || c == 0x7f:
				b = append(b, `\u00`...)
				b = append(b, hexDigits[c>>4], hexDigits[c&15])
			default:
				b = append(b, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(value[i:min(i+utf8.UTFMax, len(value))]))
		b = utf8.AppendRune(b, r)
		i += n
	}
	return append(b, '"')
}
