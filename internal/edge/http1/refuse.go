package http1

import (
	"errors"

	"github.com/guado-server/guado/internal/exchange"
)

// The lane's own refusals. After each the connection closes: behind a head that was
// not understood nobody knows where the next one starts. They are shared and never
// written to.
var (
	badRequestLine   = refusal(400, "bad_request_line", "request line is not METHOD SP TARGET SP HTTP/1.x")
	badTarget        = refusal(400, "bad_target", "request target is not one of RFC 9112, section 3.2")
	badLineEnd       = refusal(400, "bad_line_end", "line does not end in CR LF")
	badField         = refusal(400, "bad_field", "field line is not NAME \":\" VALUE without control characters")
	obsFold          = refusal(400, "obs_fold", "field line begins with white space (obsolete folding)")
	noHost           = refusal(400, "host_missing", "HTTP/1.1 request without Host")
	manyHosts        = refusal(400, "host_duplicate", "more than one Host field")
	badLength        = refusal(400, "bad_content_length", "Content-Length is not one decimal number")
	manyLengths      = refusal(400, "content_length_duplicate", "more than one Content-Length")
	lengthAndCoding  = refusal(400, "length_conflict", "both Content-Length and Transfer-Encoding")
	badCoding        = refusal(400, "bad_transfer_encoding", "more than one Transfer-Encoding, or one in HTTP/1.0")
	cutHead          = refusal(400, "head_incomplete", "client ended the connection inside a request head")
	slowHead         = refusal(408, "head_timeout", "request head did not arrive in time")
	bodyTooLarge     = refusal(413, "body_too_large", "Content-Length exceeds the limit")
	targetTooLong    = refusal(414, "uri_too_long", "request target exceeds the limit")
	badExpectation   = refusal(417, "expectation_failed", "expectation other than 100-continue")
	headTooLarge     = refusal(431, "head_too_large", "request head exceeds the limit")
	tooManyFields    = refusal(431, "too_many_fields", "number of header fields exceeds the limit")
	unknownMethod    = refusal(501, "method_not_implemented", "CONNECT, or a method of more than 32 characters")
	unknownCoding    = refusal(501, "transfer_coding_unsupported", "Transfer-Encoding is not exactly \"chunked\"")
	unknownVersion   = refusal(505, "version_unsupported", "neither HTTP/1.1 nor HTTP/1.0")
	noAnswer         = refusal(500, "no_answer", "handler returned without an answer")
	handlerPanicked  = refusal(500, "internal_error", "handler panicked")
	errNotUpgradable = errors.New("only an HTTP/1.1 request with Connection: upgrade and no unread body can leave HTTP")
)

func refusal(status int, code, text string) *exchange.Problem {
	return &exchange.Problem{Status: status, Code: code, Err: errors.New(text)}
}
