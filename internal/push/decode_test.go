package push

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestAMalformedFrameIsNotFieldForTheLog(t *testing.T) {
	if _, refusal := DecodeHello(bytes.Repeat([]byte("x"), 1<<20)); refusal == nil || refusal.Code != CodeProtocol || len(refusal.Error()) > 200 {
		t.Errorf("%v", refusal)
	}
	if _, err := decode([]byte(`{"a":"` + strings.Repeat("9", 1<<16) + `"}`)); err == nil || len(err.Error()) > 200 {
		t.Errorf("%.300v", err)
	}
}

func TestTheFirstLineOfABatchSaysWhose(t *testing.T) {
	if on, r := DecodeOn([]byte(`{"t":"on","page":"p","id":3}`)); r != nil || on != (On{Page: "p", ID: 3}) {
		t.Errorf("%+v, %v", on, r)
	}
	if on, r := DecodeOn([]byte(`{"t":"bye","page":"p","client":"c"}`)); r != nil || on != (On{Page: "p", Client: "c", Bye: true}) {
		t.Errorf("%+v, %v", on, r)
	}
	for _, text := range []string{"", "{}", `{"t":"on","page":"p"}`, `{"t":"on","page":"p","id":4294967296}`, `{"t":"bye","page":"p"}`, `{"t":"on","id":1}`} {
		if on, r := DecodeOn([]byte(text)); r == nil || r.Code != CodeProtocol {
			t.Errorf("%s: %+v, %v", text, on, r)
		}
	}
}

// FuzzDecode holds the walk over a frame against the library's.
func FuzzDecode(f *testing.F) {
	v := readVectors(f)
	for _, x := range v.Frames {
		f.Add([]byte(x.Text))
	}
	for _, x := range v.Malformed {
		f.Add([]byte(x.Text))
	}
	for _, x := range v.Hellos {
		f.Add([]byte(x.Text))
	}
	f.Add([]byte(`{"c":1,"m":"\\\"}","to":"\ud83d"}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		frame, err := decode(p)
		if err != nil {
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(p, &m); err != nil {
			t.Fatalf("taken, and json says %v", err)
		}
		data := m["m"]
		if frame.request {
			data = m["q"]
		}
		if frame.write {
			data = m["w"]
		}
		if frame.hasData && !bytes.Equal(bytes.TrimSpace(data), frame.data) {
			t.Fatalf("data %q, json says %q", frame.data, data)
		}
		if len(m) == 0 && (frame.hasAck || frame.hasData || frame.id != 0) {
			t.Fatal("made of nothing")
		}
		var to string
		if raw, ok := m["to"]; ok {
			if err := json.Unmarshal(raw, &to); err != nil || to != frame.to {
				t.Fatalf("to %q, json says %q, %v", frame.to, to, err)
			}
		}
	})
}
