package item

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAFilterPicksWhatAModelPicks holds filters against conditions that are looked at in the
// plainest way.
func TestAFilterPicksWhatAModelPicks(t *testing.T) {
	began := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	words := rapid.SampledFrom([]string{"", "ann", "anna", "bob", "An", "ö"})
	rapid.Check(t, func(t *rapid.T) {
		i := &Item{
			User: words.Draw(t, "user"), Path: words.Draw(t, "path"), Pages: rapid.IntRange(0, 3).Draw(t, "pages"),
			Started: began.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "started")) * time.Hour), Connected: rapid.Bool().Draw(t, "connected"),
		}
		title := words.Draw(t, "title")
		if title != "" {
			i.Fields = json.RawMessage(fmt.Sprintf(`{"title":%q,"n":%d}`, title, i.Pages))
		}
		values := map[string]string{"user": i.User, "path": i.Path, "title": title}
		name := rapid.SampledFrom([]string{"user", "path", "title"}).Draw(t, "name")
		value, other := values[name], words.Draw(t, "other")
		hour := rapid.IntRange(0, 3).Draw(t, "hour")
		moment := began.Add(time.Duration(hour) * time.Hour).In(time.FixedZone("", 3600)).Format(time.RFC3339)
		n := rapid.IntRange(0, 3).Draw(t, "n")
		for text, want := range map[string]bool{
			fmt.Sprintf(`{%q:%q}`, name, other):                      value == other && value != "",
			fmt.Sprintf(`{%q:null}`, name):                           value == "",
			fmt.Sprintf(`{%q:{"in":["bob",%q]}}`, name, other):       value != "" && (value == "bob" || value == other),
			fmt.Sprintf(`{%q:{"in":[]}}`, name):                      false,
			fmt.Sprintf(`{%q:{"prefix":%q}}`, name, other):           value != "" && strings.HasPrefix(value, other),
			fmt.Sprintf(`{%q:{"matches":"^a.*n"}}`, name):            strings.HasPrefix(value, "an"),
			fmt.Sprintf(`{%q:{"min":%q}}`, name, other):              value != "" && value >= other,
			fmt.Sprintf(`{%q:{"max":%q}}`, name, other):              value != "" && value <= other,
			fmt.Sprintf(`{"pages":%d}`, n):                           i.Pages == n,
			fmt.Sprintf(`{"pages":{"min":%d},"n":{"max":%d}}`, n, n): title != "" && i.Pages == n,
			fmt.Sprintf(`{"started":{"min":%q}}`, moment):            !i.Started.Before(began.Add(time.Duration(hour) * time.Hour)),
			fmt.Sprintf(`{"started":%q}`, moment):                    i.Started.Equal(began.Add(time.Duration(hour) * time.Hour)),
			`{"connected":true}`:                                     i.Connected,
			fmt.Sprintf(`{"connected":true,%q:%q}`, name, other):     i.Connected && value == other && value != "",
			`{}`:                         true,
			`{"none":null}`:              true,
			`{"none":1}`:                 false,
			`{"user":7}`:                 false,
			`{"started":{"min":"soon"}}`: false,
		} {
			var f Filter
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if f.Match(i) != want {
				t.Fatalf("%s of %+v: %v", text, i, !want)
			}
		}
	})
}

func TestAFilterThatCannotBeUnderstoodIsRefused(t *testing.T) {
	for _, text := range []string{
		`{"user":{}}`, `{"user":{"like":"a"}}`, `{"user":{"in":"a"}}`, `{"user":{"prefix":7}}`, `{"user":{"matches":"("}}`,
		`{"user":{"matches":"` + strings.Repeat("a", mostPattern+1) + `"}}`, `["user"]`,
	} {
		var f Filter
		if err := json.Unmarshal([]byte(text), &f); err == nil {
			t.Errorf("%.60s: %v", text, f)
		}
	}
}

func TestFieldsAreAJSONObjectOfABoundedSize(t *testing.T) {
	var m Meta
	for _, c := range []struct{ patch, want string }{
		{`{"a":1,"b":{"c":[null]}}`, `{"a":1,"b":{"c":[null]}}`},
		{`{"a":null,"d":"x"}`, `{"b":{"c":[null]},"d":"x"}`},
		{`{"b":null,"d":null,"e":null}`, ``},
	} {
		var patch map[string]json.RawMessage
		if err := json.Unmarshal([]byte(c.patch), &patch); err != nil {
			t.Fatal(err)
		}
		if err := m.Merge(patch); err != nil || string(m.Fields) != c.want {
			t.Errorf("%s: %s, %v", c.patch, m.Fields, err)
		}
	}
	if err := m.Merge(map[string]json.RawMessage{"a": json.RawMessage(`"` + strings.Repeat("x", MostFields) + `"`)}); err == nil || m.Fields != nil {
		t.Errorf("%v, %d bytes", err, len(m.Fields))
	}
}
