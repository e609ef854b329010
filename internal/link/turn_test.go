package link_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// vectorTurns are the turns of turns.txt.
func vectorTurns() []struct {
	name string
	turn exchange.Turn
} {
	type named = struct {
		name string
		turn exchange.Turn
	}
	page, connection := "V1StGXR8_Z5jdHi6B_myTz", "c0nnect10n"
	return []named{
		{"open", exchange.Turn{Do: exchange.TurnOpen, Page: page, Connection: connection, Class: "Board", Args: []byte(`{"size":3}`)}},
		{"message", exchange.Turn{Do: exchange.TurnMessage, Opened: true, Page: page, User: "anna", Connection: connection, Class: "Board", Data: []byte(`{"x":[1,"\u00e8"]}`)}},
		{"request", exchange.Turn{Do: exchange.TurnRequest, Opened: true, Page: page, User: "zoë", Connection: connection, Class: "shop.Cart", Data: []byte(`null`)}},
		{"snapshot", exchange.Turn{Do: exchange.TurnSnapshot, Opened: true, Page: page, Connection: connection, Class: "Board"}},
		{"close", exchange.Turn{Do: exchange.TurnClose, Opened: true, Page: page, Connection: connection, Class: "Board", Why: "evicted"}},
		{"event", exchange.Turn{Do: exchange.TurnEvent, Opened: true, Page: page, Connection: connection, Class: "Board", Topic: "invoice.paid", Data: []byte(`7`)}},
		{"http", exchange.Turn{Do: exchange.TurnHTTP, Opened: true, Page: "0123456789abcdefghijkl", Connection: "C", Data: []byte(`{"method":"GET","path":"items","query":"","data":null}`)}},
		{"write", exchange.Turn{Do: exchange.TurnWrite, Page: page, Connection: connection, Data: []byte(`{"changes":[{"path":["a"],"value":1}],"as":0}`)}},
		{"on", exchange.Turn{Do: exchange.TurnOn, Topic: "invoice.paid", Data: []byte(`{"id":1}`)}},
		{"fragmented-turn", exchange.Turn{Do: exchange.TurnRequest, Opened: true, Page: page, Connection: connection, Class: "Board", Data: []byte(`"` + strings.Repeat("0123456789", 120) + `"`)}},
	}
}

func TestVectorsOfTurns(t *testing.T) {
	var vectors []vector
	for _, c := range vectorTurns() {
		ring := 1 << 20
		if strings.HasPrefix(c.name, "fragmented-") {
			ring = 4096
		}
		l, p := pair(t, link.Options{Transport: link.Socket, Ring: ring})
		var s *link.Stream
		for range 3 {
			var err error
			if s, err = l.Open(request("GET", "/")); err != nil {
				t.Fatal(err)
			}
		}
		payload := link.AppendTurn(nil, &c.turn, 3)
		if err := s.Turn(payload); err != nil {
			t.Fatal(err)
		}
		app, got, err := linktest.ParseTurn(payload)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{kind: "turn", name: c.name}
		v.add("app", app)
		v.add("do", uint8(got.Do))
		v.add("opened", map[bool]int{true: 1}[got.Opened])
		for _, s := range [][2]string{
			{"page", got.Page}, {"user", got.User}, {"connection", got.Connection}, {"data", string(got.Data)},
			{"class", got.Class}, {"args", string(got.Args)}, {"topic", got.Topic}, {"why", got.Why},
		} {
			v.add(s[0], s[1])
		}
		for more := true; more; {
			f := next(t, p, link.KindTurn)
			more = f.Flags&link.More != 0
			if f.Stream != vectorStream || more == (f.Flags&link.End != 0) {
				t.Fatalf("turn on stream 0x%x with flags %d", f.Stream, f.Flags)
			}
			v.frame(linktest.AppendFrame(nil, f.Kind, f.Flags, f.Stream, f.Arg, f.Payload))
		}
		vectors = append(vectors, v)
	}
	golden(t, "turns.txt", "TURN messages, as the host sends them.", vectors)
}

// corruptTurns are what a worker refuses.
func corruptTurns() (out []vector) {
	add := func(name, why string, b []byte) {
		v := vector{kind: "corrupt", name: name}
		v.add("part", "turn")
		v.add("why", strings.ReplaceAll(why, " ", "_"))
		v.add("bytes", hex.EncodeToString(b))
		out = append(out, v)
	}
	whole := link.AppendTurn(nil, &vectorTurns()[1].turn, 1)
	for _, n := range []int{0, 7, 8, 11, 12, 33, len(whole) / 2, len(whole) - 4, len(whole) - 1} {
		add(fmt.Sprintf("turn-cut-at-%d", n), "ends too early", whole[:n])
	}
	add("turn-with-more", "ends too late", append(bytes.Clone(whole), 0))
	add("turn-that-does-nothing", "1 to 7", patch(whole, 2, 0))
	add("turn-that-nobody-knows", "1 to 9", patch(whole, 2, 10))
	add("turn-with-unknown-flags", "only OPENED is known", patch(whole, 3, 2))
	add("turn-with-reserved-bits", "the u32 behind the flags is zero", patch(whole, 4, 1))
	add("turn-string-of-gigabytes", "a string is longer than the payload", patch(whole, 8, 0xff, 0xff, 0xff, 0xff))
	return out
}
