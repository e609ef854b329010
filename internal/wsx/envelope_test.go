package wsx

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDataIsUnwrappedAsItsClientsWrapIt(t *testing.T) {
	for data, want := range map[string]struct {
		json  string
		typed bool
	}{
		`"\"{\"form\":\"a=1&b=%22\"}\""`:           {json: `{"form":"a=1&b=%22"}`},
		`"\"{\"s\":\"q\\\"q\"}\""`:                 {json: `{"s":"q\"q"}`},
		`"\"{\"day\":\"2026-01-02::D\"}::JS\""`:    {json: `{"day":"2026-01-02::D"}`, typed: true},
		`"\"\"pong\"\""`:                           {json: `"pong"`},
		`"\"null\""`:                               {json: `null`},
		`"\"7\""`:                                  {json: `7`},
		`{"form":"a=1"}`:                           {json: `{"form":"a=1"}`},
		`"{\"form\":\"a=1\"}"`:                     {json: `{"form":"a=1"}`},
		`"\"{\"s\":\"\\u00e9\\u2028\"}\""`:         {json: `{"s":"\u00e9\u2028"}`},
		`null`:                                     {},
		`"\"[1,{\"n\":\"12.50::N\"},\"x\"]::JS\""`: {json: `[1,{"n":"12.50::N"},"x"]`, typed: true},
	} {
		e, err := decode([]byte(`WSX://{"id":1,"path":"/p","data":` + data + `}`))
		if err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		got, err := e.payload()
		if err != nil || string(got.json) != want.json || got.typed != want.typed {
			t.Errorf("%s became %s, %t, %v", data, got.json, got.typed, err)
		}
	}
	for _, data := range []string{`"\"{\""`, `"text"`, `""`, `"\""`, `"::JS"`} {
		e, err := decode([]byte(`WSX://{"id":1,"path":"/p","data":` + data + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.payload(); err == nil {
			t.Errorf("%s became %s", data, got.json)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`WSX://{"id":"a","path":"/p","page_id":"P","data":"\"{}\""}`))
	f.Add([]byte(`WSX://{"id":null,"data":"\"\"::JS\""}`))
	f.Add([]byte(`{"id":{"a":[1]},"path":7}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := decode(p)
		if err != nil {
			return
		}
		data, err := e.payload()
		if err == nil && data.json != nil && !json.Valid(data.json) {
			t.Errorf("%q gave %q", p, data.json)
		}
		if e.ID == nil {
			return
		}
		// Whatever came, the answer is a message with the same id.
		frame := string(e.reply(200, wrap(data.json)))
		var back struct {
			ID     json.RawMessage
			Status int
			Data   string
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(frame, mark)), &back); err != nil || back.Status != 200 || back.Data != wrap(data.json) {
			t.Errorf("%q was answered %q: %v", p, frame, err)
		}
	})
}
