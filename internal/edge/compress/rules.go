package compress

import (
	"bytes"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// compressible says whether an answer may be compressed, whoever asks for it. Event
// streams never are: a proxy or client that decodes in blocks would hold events back.
func compressible(x *exchange.Exchange, h *exchange.Head) bool {
	switch {
	case h.Status < 200, h.Status == 204, h.Status == 205, h.Status == 206, h.Status == 304:
		return false
	case x.Method == "CONNECT":
		return false
	}
	typed := false
	for _, f := range h.Fields {
		switch {
		case f.Is("content-encoding"), f.Is("content-range"):
			return false
		case f.Is("cache-control") && hasDirective(f.Value, "no-transform"):
			return false
		case f.Is("content-type"):
			if typed = isText(f.Value); !typed {
				return false
			}
		}
	}
	return typed
}

func hasDirective(value []byte, name string) bool {
	for rest := value; len(rest) > 0; {
		var element []byte
		element, rest = cut(rest, ',')
		if exchange.EqualFold(bytes.TrimSpace(element), name) {
			return true
		}
	}
	return false
}

// isText names the types that compress well; anything else is taken to be compressed
// already.
func isText(contentType []byte) bool {
	media, _ := cut(contentType, ';')
	t := strings.ToLower(string(bytes.TrimSpace(media)))
	switch t {
	case "text/event-stream":
		return false
	case "application/json", "application/javascript", "application/xml", "application/wasm", "application/manifest+json",
		"application/x-javascript", "application/x-ndjson", "application/graphql", "application/yaml", "application/toml",
		"image/svg+xml", "image/x-icon", "image/vnd.microsoft.icon", "font/ttf", "font/otf", "application/vnd.ms-fontobject":
		return true
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

var (
	varyName     = []byte("Vary")
	encodingName = []byte("Content-Encoding")
	acceptValue  = []byte("Accept-Encoding")
)

// appendVary adds Accept-Encoding unless it is there.
func appendVary(fields []exchange.Field) []exchange.Field {
	for _, f := range fields {
		if f.Is("vary") && (hasDirective(f.Value, "accept-encoding") || hasDirective(f.Value, "*")) {
			return fields
		}
	}
	return append(fields, exchange.Field{Name: varyName, Value: acceptValue})
}

// encodedFields makes the fields of the plain answer those of the compressed one: it
// is another representation, so its strong ETag becomes a weak one, its ranges are not
// those of the file, and digests of the content no longer hold.
func encodedFields(fields []exchange.Field, coding string) []exchange.Field {
	out := fields[:0]
	for _, f := range fields {
		switch {
		case f.Is("etag") && !bytes.HasPrefix(f.Value, []byte("W/")):
			f.Value = append([]byte("W/"), f.Value...)
		case f.Is("accept-ranges"), f.Is("content-md5"), f.Is("content-digest"), f.Is("content-length"):
			continue
		}
		out = append(out, f)
	}
	return append(out, exchange.Field{Name: encodingName, Value: []byte(coding)})
}
