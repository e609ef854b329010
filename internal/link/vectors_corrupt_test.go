package link_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

func TestVectorsOfCorruptFrames(t *testing.T) {
	golden(t, "corrupt.txt", "What must be refused.", corruptVectors(t))
	for _, v := range readVectors(t, "corrupt.txt") {
		b := unhex(t, v.get(t, "bytes"))
		var err error
		switch v.get(t, "part") {
		case "header":
			l, p := pair(t, link.Options{Transport: link.Socket})
			if err := p.SendRaw(b); err != nil {
				t.Fatal(err)
			}
			<-l.Done()
			err = l.Err()
		case "head":
			_, _, err = link.DecodeHead(b, nil)
		case "trailers":
			_, err = link.DecodeTrailers(b, nil)
		case "request":
			if _, err := linktest.ParseRequest(b); err == nil {
				t.Errorf("%s is accepted", v.name)
			}
			continue
		case "turn":
			if _, _, err := linktest.ParseTurn(b); err == nil {
				t.Errorf("%s is accepted", v.name)
			}
			continue
		}
		if !errors.Is(err, link.ErrCorrupt) {
			t.Errorf("%s is accepted (%v)", v.name, err)
		}
	}
}

func corruptVectors(t *testing.T) (out []vector) {
	t.Helper()
	add := func(part, name, why string, b []byte) {
		v := vector{kind: "corrupt", name: name}
		v.add("part", part)
		v.add("why", strings.ReplaceAll(why, " ", "_"))
		v.add("bytes", hex.EncodeToString(b))
		out = append(out, v)
	}
	add("header", "zero", "a hole punched into the ring", make([]byte, 16))
	add("header", "size-below-header", "size counts the header", frame(15, 0x0f, 0, 0, 0, 0))
	add("header", "size-over-largest", "size over ring/8", frame(131073, 0x03, 0, 0, vectorStream, 0))
	add("header", "size-of-gigabytes", "size over ring/8", frame(1<<32-1, 0x03, 0, 0, vectorStream, 0))
	add("header", "reserved-bits", "the u16 behind the flags is zero", frame(16, 0x0f, 0, 0x0100, 0, 0))

	var x *exchange.Exchange
	for _, c := range vectorRequests() {
		if c.name == "post-wsgi" {
			x = c.x
		}
	}
	whole := link.AppendRequest(nil, x, 0, true, []byte("body"))
	for _, n := range []int{0, 1, 23, 24, 27, 40, len(whole) / 2, len(whole) - 5, len(whole) - 4, len(whole) - 1} {
		add("request", fmt.Sprintf("request-cut-at-%d", n), "ends too early", whole[:n])
	}
	add("request", "request-with-more", "ends too late", append(bytes.Clone(whole), 0))
	add("request", "string-of-gigabytes", "a string is longer than the payload", patch(whole, 24, 0xff, 0xff, 0xff, 0xff))
	add("request", "more-fields-than-there-are", "the count is too high", patch(whole, 6, 0xff, 0xff))

	out = append(out, corruptTurns()...)

	head := linktest.AppendCommit(nil, 200, "OK", 4, []byte("body"), linktest.Field{Name: "Server", Value: "x"})
	for _, n := range []int{0, 15, 16, 17, 18, 25, 32, len(head) - 5, len(head) - 1} {
		add("head", fmt.Sprintf("head-cut-at-%d", n), "ends too early", head[:n])
	}
	add("head", "head-with-more", "ends too late", append(bytes.Clone(head), 0))
	add("head", "status-99", "100 to 999", patch(head, 0, 99, 0))
	add("head", "status-1000", "100 to 999", patch(head, 0, 0xe8, 3))
	add("head", "length-below-minus-one", "-1 means unknown", patch(head, 4, 0xfe, 255, 255, 255, 255, 255, 255, 255))
	add("head", "reason-of-gigabytes", "longer than the head", patch(head, 12, 0xff, 0xff, 0xff, 0xff))
	add("head", "reason-with-newline", "would split the answer", patch(head, 16, '\n'))
	for _, c := range []struct {
		name, why string
		f         linktest.Field
	}{
		{"value-with-cr", "would split the answer", linktest.Field{Name: "A", Value: "b\rc"}},
		{"value-with-lf", "would split the answer", linktest.Field{Name: "A", Value: "b\nc"}},
		{"value-with-nul", "no field value", linktest.Field{Name: "A", Value: "b\x00c"}},
		{"name-empty", "no token", linktest.Field{Name: "", Value: "b"}},
		{"name-with-space", "no token", linktest.Field{Name: "A B", Value: "c"}},
		{"name-with-colon", "no token", linktest.Field{Name: "A:", Value: "c"}},
		{"name-with-lf", "no token", linktest.Field{Name: "A\n", Value: "c"}},
		{"name-not-ascii", "no token", linktest.Field{Name: "caf\xe9", Value: "c"}},
		{"content-length", "the host frames the body", linktest.Field{Name: "Content-Length", Value: "4"}},
		{"transfer-encoding", "the host frames the body", linktest.Field{Name: "transfer-encoding", Value: "chunked"}},
		{"connection", "only close may be asked for", linktest.Field{Name: "Connection", Value: "close, upgrade"}},
	} {
		add("head", c.name, c.why, linktest.AppendCommit(nil, 200, "OK", 0, nil, c.f))
		add("trailers", "trailer-"+c.name, c.why, linktest.AppendFields([]byte{1, 0}, c.f))
	}
	add("head", "field-with-reserved-bits", "the u16 behind the name length is zero", patch(head, 20, 1))
	add("trailers", "trailer-connection-close", "too late for it", linktest.AppendFields([]byte{1, 0}, linktest.Field{Name: "connection", Value: "close"}))
	add("trailers", "trailers-cut", "ends too early", linktest.AppendFields([]byte{2, 0}, linktest.Field{Name: "A", Value: "b"}))
	add("trailers", "trailers-without-count", "ends too early", []byte{1})
	return out
}

// patch gives a copy of b with other bytes at some place.
func patch(b []byte, at int, other ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], other)
	return b
}
