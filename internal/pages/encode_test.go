package pages

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestATurnIsWrittenAsEncodingJSONWouldWriteIt(t *testing.T) {
	for _, b := range []body{
		{Do: doOpen},
		{Do: doRequest, Page: "p", Class: "Board", Args: json.RawMessage(`{"a":[1,"<&>"]}`), Opened: true, User: `ada "the\first"`, Connection: "c", Data: json.RawMessage(`"\u2028"`)},
		{Do: doEvent, Topic: "a.b", Data: json.RawMessage(`null`), User: "über\x01\xff<"},
		{Do: doClose, Why: "ended"},
	} {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(b); err != nil {
			t.Fatal(err)
		}
		var got, wanted any
		if err := json.Unmarshal(b.appendTo(nil), &got); err != nil {
			t.Fatalf("%s: %v", b.appendTo(nil), err)
		}
		if err := json.Unmarshal(want.Bytes(), &wanted); err != nil {
			t.Fatal(err)
		}
		one, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		other, err := json.Marshal(wanted)
		if err != nil || !bytes.Equal(one, other) {
			t.Errorf("%s\nwant %s (%v)", one, other, err)
		}
	}
}

func TestWhatAHandlerReturnedIsTakenAsItIs(t *testing.T) {
	for text, want := range map[string]string{
		`{"data":{"a":1}}`:             `{"a":1}`,
		`{"data":[1,2]}`:               `[1,2]`,
		`{ "data": 3 }`:                `3`,
		`{}`:                           ``,
		`{"other":1,"data":"x"}`:       `"x"`,
		`{"data":"a \"quoted\" text"}`: `"a \"quoted\" text"`,
	} {
		out := ofTurn(&exchange.Collected{Status: 200, Body: []byte(text)})
		if out.err != nil || string(out.data) != want {
			t.Errorf("%s: %s, %v", text, out.data, out.err)
		}
	}
	if out := ofTurn(&exchange.Collected{Status: 200, Body: []byte(`nonsense`)}); out.err == nil {
		t.Error("nonsense is an answer")
	}
}
