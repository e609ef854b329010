package link

import (
	"encoding/binary"

	"github.com/guado-server/guado/internal/exchange"
)

// headSize walks over a head and gives the offset of the body bytes behind it. The
// reader uses it to charge the body against the credit without validating names.
func headSize(p []byte) (int, error) {
	if len(p) < 16 {
		return 0, corrupt("head of %d bytes", len(p))
	}
	count := int(binary.LittleEndian.Uint16(p[2:]))
	at, ok := skip(p, 16, uint64(binary.LittleEndian.Uint32(p[12:])))
	for ; ok && count > 0; count-- {
		at, ok = skipField(p, at)
	}
	if !ok {
		return 0, corrupt("head is longer than its %d bytes", len(p))
	}
	return at, nil
}

func skip(p []byte, at int, n uint64) (int, bool) {
	if n > uint64(len(p)-at) {
		return at, false
	}
	return at + int(n), true
}

func skipField(p []byte, at int) (int, bool) {
	if len(p)-at < 8 {
		return at, false
	}
	name := uint64(binary.LittleEndian.Uint16(p[at:]))
	value := uint64(binary.LittleEndian.Uint32(p[at+4:]))
	return skip(p, at+8, name+value)
}

// Accepts reports whether a COMMIT is that of an accepted WebSocket.
func Accepts(payload []byte) bool {
	return len(payload) > 1 && binary.LittleEndian.Uint16(payload) == 101
}

// DecodeHead reads the payload of a COMMIT or INFORMATIONAL frame: the head, and the
// body bytes that came with it. Fields are appended to fields[:0] and, like body,
// point into payload. An error means that the worker broke the protocol: hand it to
// [Stream.Refuse].
func DecodeHead(payload []byte, fields []exchange.Field) (h exchange.Head, body []byte, err error) {
	if len(payload) < 16 {
		return h, nil, corrupt("head of %d bytes", len(payload))
	}
	le := binary.LittleEndian
	h.Status = int(le.Uint16(payload))
	count := int(le.Uint16(payload[2:]))
	h.Length = int64(le.Uint64(payload[4:]))
	if h.Status < 100 || h.Status > 999 {
		return h, nil, corrupt("status %d", h.Status)
	}
	if h.Length < -1 {
		return h, nil, corrupt("content length %d", h.Length)
	}
	at, ok := skip(payload, 16, uint64(le.Uint32(payload[12:])))
	if !ok {
		return h, nil, corrupt("reason is longer than the head")
	}
	if !cleanValue(payload[16:at]) {
		return h, nil, corrupt("reason phrase with control characters")
	}
	h.Reason = phrase(payload[16:at])
	h.Fields, at, err = decodeFields(payload, at, count, fields[:0], true)
	if err != nil {
		return h, nil, err
	}
	if at == len(payload) {
		return h, nil, nil // INFORMATIONAL has no body
	}
	if len(payload)-at < 4 {
		return h, nil, corrupt("head with %d stray bytes", len(payload)-at)
	}
	if n := le.Uint32(payload[at:]); uint64(n) != uint64(len(payload)-at-4) {
		return h, nil, corrupt("head announces %d body bytes and has %d", n, len(payload)-at-4)
	}
	return h, payload[at+4:], nil
}

// DecodeTrailers reads the payload of a TRAILERS frame into fields[:0].
func DecodeTrailers(payload []byte, fields []exchange.Field) ([]exchange.Field, error) {
	if len(payload) < 2 {
		return nil, corrupt("trailers of %d bytes", len(payload))
	}
	out, at, err := decodeFields(payload, 2, int(binary.LittleEndian.Uint16(payload)), fields[:0], false)
	if err == nil && at != len(payload) {
		err = corrupt("trailers with %d stray bytes", len(payload)-at)
	}
	return out, err
}

func decodeFields(p []byte, at, count int, fields []exchange.Field, head bool) ([]exchange.Field, int, error) {
	for ; count > 0; count-- {
		end, ok := skipField(p, at)
		if !ok {
			return fields, at, corrupt("field is longer than its frame")
		}
		if p[at+2]|p[at+3] != 0 {
			return fields, at, corrupt("field with reserved bits")
		}
		split := at + 8 + int(binary.LittleEndian.Uint16(p[at:]))
		f := exchange.Field{Name: p[at+8 : split : split], Value: p[split:end:end]}
		if err := checkField(f); err != nil && (!head || !asksToClose(f)) {
			return fields, at, err
		}
		fields = append(fields, f)
		at = end
	}
	return fields, at, nil
}

// asksToClose tells the one wish about the connection that an application may have:
// the lane ends it behind this answer.
func asksToClose(f exchange.Field) bool { return f.Is("connection") && string(f.Value) == "close" }

// checkField refuses what would let an answer be split or framed a second time: the
// worker's own checks run in the process that the application can write to.
func checkField(f exchange.Field) error {
	if len(f.Name) == 0 {
		return corrupt("field without a name")
	}
	for _, c := range f.Name {
		if !tokenByte[c] {
			return corrupt("field name %q", f.Name)
		}
	}
	if !cleanValue(f.Value) {
		return corrupt("value of %s has CR, LF or NUL", f.Name)
	}
	switch len(f.Name) {
	case 10, 14, 17:
		if f.Is("connection") || f.Is("content-length") || f.Is("transfer-encoding") {
			return corrupt("field %s belongs to the host", f.Name)
		}
	}
	return nil
}

func cleanValue(v []byte) bool {
	for _, c := range v {
		if c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return false
		}
	}
	return true
}

// tokenByte holds the characters of a token, RFC 9110 section 5.6.2.
var tokenByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// phrases keeps the common reason phrases from being allocated for each answer.
var phrases = func() map[string]string {
	m := make(map[string]string)
	for _, s := range []string{
		"OK", "Created", "Accepted", "No Content", "Partial Content", "Moved Permanently",
		"Found", "See Other", "Not Modified", "Temporary Redirect", "Permanent Redirect",
		"Bad Request", "Unauthorized", "Forbidden", "Not Found", "Method Not Allowed",
		"Conflict", "Gone", "Unprocessable Entity", "Unprocessable Content",
		"Too Many Requests", "Internal Server Error", "Bad Gateway", "Service Unavailable",
		"Continue", "Early Hints",
	} {
		m[s] = s
	}
	return m
}()

func phrase(b []byte) string {
	if s, ok := phrases[string(b)]; ok {
		return s
	}
	return string(b)
}
