package link

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/guado-server/guado/internal/exchange"
)

// Flags of a REQUEST payload.
const (
	requestNoLength = 1
	requestExpect   = 2
	requestTrailers = 4
	requestHead     = 8
	requestSocket   = 16
)

// turnOpened is the flag of a TURN payload.
const turnOpened = 1

// AppendRequest appends the REQUEST payload of x to dst: everything ready to use by
// the application's protocol, so that the worker only makes strings of it. WSGI gets
// environ keys and joined duplicates, ASGI lower-case names in order of arrival.
// inline are the bytes of the body that go with it. It allocates only to grow dst.
func AppendRequest(dst []byte, x *exchange.Exchange, app uint16, wsgi bool, inline ...[]byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, byte(x.Version), 0)
	dst = le.AppendUint16(dst, requestFlags(x, wsgi))
	dst = le.AppendUint16(dst, app)
	countAt := len(dst)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint64(dst, uint64(max(x.Length, -1)))
	var version, suite uint16
	if x.TLS != nil {
		version, suite = x.TLS.Version, x.TLS.CipherSuite
	}
	dst = le.AppendUint16(dst, version)
	dst = le.AppendUint16(dst, suite)
	serverPort, clientPort := x.LocalPort, x.Client.Port()
	if x.Unix {
		serverPort = 0
	}
	dst = le.AppendUint16(dst, serverPort)
	dst = le.AppendUint16(dst, clientPort)

	dst = appendString(dst, x.ID)
	dst = appendString(dst, x.Method)
	dst = appendString(dst, x.Scheme)
	dst = appendString(dst, x.Path)
	dst = appendString(dst, x.RawPath)
	dst = appendString(dst, x.Query)
	dst = appendString(dst, x.Target)
	dst = appendString(dst, x.Root)
	dst = appendServerName(dst, x, wsgi)
	at := len(dst)
	dst = le.AppendUint32(dst, 0)
	if addr := x.Client.Addr(); addr.IsValid() {
		dst = addr.Unmap().AppendTo(dst)
	}
	le.PutUint32(dst[at:], uint32(len(dst)-at-4))
	dst = appendString(dst, x.TraceParent)

	var count uint16
	if wsgi {
		dst, count = appendEnviron(dst, x)
	} else {
		dst, count = appendHeaders(dst, x)
	}
	le.PutUint16(dst[countAt:], count)

	at = len(dst)
	dst = le.AppendUint32(dst, 0)
	for _, p := range inline {
		dst = append(dst, p...)
	}
	le.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// AppendTurn appends the TURN payload of t to dst. It allocates only to grow dst.
func AppendTurn(dst []byte, t *exchange.Turn, app uint16) []byte {
	flags := byte(0)
	if t.Opened {
		flags = turnOpened
	}
	dst = binary.LittleEndian.AppendUint16(dst, app)
	dst = append(dst, byte(t.Do), flags, 0, 0, 0, 0)
	dst = appendString(dst, t.Page)
	dst = appendString(dst, t.User)
	dst = appendString(dst, t.Connection)
	dst = appendString(dst, t.Data)
	dst = appendString(dst, t.Class)
	dst = appendString(dst, t.Args)
	dst = appendString(dst, t.Topic)
	return appendString(dst, t.Why)
}

func requestFlags(x *exchange.Exchange, wsgi bool) (f uint16) {
	if x.Length < 0 {
		f |= requestNoLength
	}
	if x.Expect {
		f |= requestExpect
	}
	if x.TrailersOK {
		f |= requestTrailers
	}
	if x.Method == "HEAD" {
		f |= requestHead
	}
	if x.Upgrader != nil && !wsgi {
		f |= requestSocket
	}
	return f
}

// appendServerName writes what may never be empty (PEP 3333), and be part of a URL: the
// path of a Unix socket cannot.
func appendServerName(dst []byte, x *exchange.Exchange, wsgi bool) []byte {
	name := hostName(x.Host)
	switch {
	case wsgi && len(name) > 0:
		return appendString(dst, name)
	case wsgi && x.Unix:
		return appendString(dst, "localhost")
	default:
		return appendString(dst, x.LocalName)
	}
}

// hostName is the host part of a Host field; an IPv6 literal keeps its brackets, as
// SERVER_NAME has them (RFC 3875, section 4.1.14).
func hostName(host []byte) []byte {
	if len(host) > 0 && host[0] == '[' {
		if i := bytes.IndexByte(host, ']'); i > 0 {
			return host[:i+1]
		}
		return nil
	}
	if i := bytes.IndexByte(host, ':'); i >= 0 {
		return host[:i]
	}
	return host
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// appendField writes a field whose name is written as it is.
func appendField[N, V string | []byte](dst []byte, name N, value V) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint16(dst, uint16(len(name)))
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, name...)
	return append(dst, value...)
}

// appendLength writes the field of the body's length.
func appendLength(dst []byte, name string, length int64) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint16(dst, uint16(len(name)))
	dst = le.AppendUint16(dst, 0)
	at := len(dst)
	dst = le.AppendUint32(dst, 0)
	dst = append(dst, name...)
	start := len(dst)
	dst = strconv.AppendInt(dst, length, 10)
	le.PutUint32(dst[at:], uint32(len(dst)-start))
	return dst
}

// own are fields that the host writes itself, wherever the client put them.
type own uint8

const (
	notOwn own = iota
	ownHost
	ownLength
	ownOther // transfer-encoding, x-request-id, traceparent
)

func ownField(f *exchange.Field) own {
	switch len(f.Name) {
	case 4:
		if f.Is("host") {
			return ownHost
		}
	case 11:
		if f.Is("traceparent") {
			return ownOther
		}
	case 12:
		if f.Is("x-request-id") {
			return ownOther
		}
	case 14:
		if f.Is("content-length") {
			return ownLength
		}
	case 17:
		if f.Is("transfer-encoding") {
			return ownOther
		}
	}
	return notOwn
}

// appendHeaders writes the fields as ASGI wants them.
func appendHeaders(dst []byte, x *exchange.Exchange) ([]byte, uint16) {
	count := uint16(0)
	if len(x.Host) > 0 {
		dst = appendField(dst, "host", x.Host)
		count++
	}
	lengthSent := false
	for i := range x.Fields {
		f := &x.Fields[i]
		switch ownField(f) {
		case notOwn:
			start := len(dst) + 8
			dst = appendField(dst, f.Name, f.Value)
			lower(dst[start : start+len(f.Name)])
			count++
		case ownLength:
			// The host's number replaces the client's digits: what frames the body and
			// what the application reads cannot differ.
			if !lengthSent && x.Length >= 0 {
				dst = appendLength(dst, "content-length", x.Length)
				lengthSent = true
				count++
			}
		}
	}
	if !lengthSent && x.Length > 0 { // a body of unknown length that was spooled
		dst = appendLength(dst, "content-length", x.Length)
		count++
	}
	if x.Upgrader != nil {
		// They speak of the connection and were taken out, but applications ask for them.
		dst = appendField(dst, "connection", "Upgrade")
		dst = appendField(dst, "upgrade", "websocket")
		count += 2
	}
	if x.ID != "" {
		dst = appendField(dst, "x-request-id", x.ID)
		count++
	}
	if len(x.TraceParent) > 0 {
		dst = appendField(dst, "traceparent", x.TraceParent)
		count++
	}
	return dst, count
}

// appendEnviron writes the fields as WSGI's environ keys.
func appendEnviron(dst []byte, x *exchange.Exchange) ([]byte, uint16) {
	count := uint16(0)
	if len(x.Host) > 0 {
		dst = appendField(dst, "HTTP_HOST", x.Host)
		count++
	}
	twice := repeated(x.Fields)
	lengthField := false
	for i := range x.Fields {
		f := &x.Fields[i]
		switch ownField(f) {
		case notOwn:
		case ownLength:
			lengthField = true
			continue
		default:
			continue
		}
		dup := twice&nameBit(f.Name) != 0
		if dup && sameBefore(x.Fields[:i], f.Name) {
			continue // joined to the first one
		}
		rest := x.Fields[i+1:]
		if !dup {
			rest = nil
		}
		dst = appendEnvironField(dst, f, rest)
		count++
	}
	if x.Length > 0 || x.Length == 0 && lengthField {
		dst = appendLength(dst, "CONTENT_LENGTH", x.Length)
		count++
	}
	if x.ID != "" {
		dst = appendField(dst, "HTTP_X_REQUEST_ID", x.ID)
		count++
	}
	if len(x.TraceParent) > 0 {
		dst = appendField(dst, "HTTP_TRACEPARENT", x.TraceParent)
		count++
	}
	return dst, count
}

// appendEnvironField writes f under its environ key, with the values of those in
// rest that have the same name.
func appendEnvironField(dst []byte, f *exchange.Field, rest []exchange.Field) []byte {
	le := binary.LittleEndian
	head := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	if !f.Is("content-type") {
		dst = append(dst, "HTTP_"...)
	}
	at := len(dst)
	dst = append(dst, f.Name...)
	environKey(dst[at:])
	le.PutUint16(dst[head:], uint16(len(dst)-head-8))
	value := len(dst)
	dst = append(dst, f.Value...)
	for i := range rest {
		if !sameName(rest[i].Name, f.Name) {
			continue
		}
		if f.Is("cookie") {
			dst = append(dst, "; "...)
		} else {
			dst = append(dst, ',')
		}
		dst = append(dst, rest[i].Value...)
	}
	le.PutUint32(dst[head+4:], uint32(len(dst)-value))
	return dst
}

// nameBit hashes a name to one of 64 bits, the same for either case.
func nameBit(name []byte) uint64 {
	h := uint(len(name)) * 7
	if len(name) > 0 {
		h += uint(name[0]|0x20)*3 + uint(name[len(name)-1]|0x20) + uint(name[len(name)/2]|0x20)*5
	}
	return 1 << (h & 63)
}

// repeated is the set of name bits that more than one field has: names whose bit is
// not in it occur once, and need no search.
func repeated(fields []exchange.Field) (twice uint64) {
	var once uint64
	for i := range fields {
		b := nameBit(fields[i].Name)
		twice |= once & b
		once |= b
	}
	return twice
}

func sameBefore(fields []exchange.Field, name []byte) bool {
	for i := range fields {
		if sameName(fields[i].Name, name) {
			return true
		}
	}
	return false
}

// sameName compares ASCII names without case.
func sameName(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}

func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 0x20
		}
	}
}

func environKey(b []byte) {
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z':
			b[i] = c - 0x20
		case c == '-':
			b[i] = '_'
		}
	}
}
