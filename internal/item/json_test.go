package item

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAnItemIsWrittenAsTheLibraryWritesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[a-z"\\<>&]{1,9}`), rapid.String())
		when := rapid.Int64Range(0, 4e18)
		i := Item{
			Kind: rapid.SampledFrom([]Kind{Page, Connection, User}).Draw(t, "kind"), ID: text.Draw(t, "id"),
			User: text.Draw(t, "user"), Connection: text.Draw(t, "connection"), Flag: text.Draw(t, "flag"),
			Started: time.Unix(0, when.Draw(t, "started")).UTC(), Seen: time.Unix(0, when.Draw(t, "seen")),
			Address: text.Draw(t, "address"), Agent: text.Draw(t, "agent"), App: text.Draw(t, "app"),
			Class: text.Draw(t, "class"), Path: text.Draw(t, "path"),
			Connected: rapid.Bool().Draw(t, "connected"), Claimed: rapid.Bool().Draw(t, "claimed"),
			Pages: rapid.IntRange(0, 3).Draw(t, "pages"), Connections: rapid.IntRange(0, 3).Draw(t, "connections"),
			Bytes: rapid.Int64Range(0, 3).Draw(t, "bytes"),
		}
		if rapid.Bool().Draw(t, "fields") {
			i.Fields = json.RawMessage(`{"title":"Invoice","n":[1,2]}`)
		}
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(i); err != nil {
			t.Fatal(err)
		}
		if got := string(i.AppendJSON(nil)) + "\n"; got != want.String() {
			t.Errorf("%s\nwant %s", got, want.String())
		}
	})
}
