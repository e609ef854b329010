package globalstore

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
)

func TestWhatPeopleWriteGetsTheOneForm(t *testing.T) {
	s := open(t, Limits{})
	for text, one := range map[string]string{
		` [1, 2.50, "\u00e8\/", null ]`:      `[1,2.5,"è/",null]`,
		`1e3`:                                "1000.0",
		`1e22`:                               "1e+22",
		`-0.0`:                               "-0.0",
		`0.00001`:                            "1e-05",
		`1E400`:                              `{"$float":"inf"}`,
		`9007199254740992`:                   `{"$int":"0x20000000000000"}`,
		`-9007199254740992`:                  `{"$int":"-0x20000000000000"}`,
		`{"a" : {"b":[ {"c" :1, "d":{}} ]}}`: `{"a":{"b":[{"c":1,"d":{}}]}}`,
		`{"$decimal" : "1.10"}`:              `{"$decimal":"1.10"}`,
		`{"a":1,"b":2,"a":3}`:                `{"a":3,"b":2}`,
		`"\u0001\n\"\\"`:                     `"\u0001\n\"\\"`,
		`[true,false]`:                       `[true,false]`,
	} {
		v, err := Written([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := s.Set(Path{"v"}, v, 0); err != nil {
			t.Fatal(err)
		}
		want(t, s, "v", one)
	}
	for _, bad := range []string{"", "{", "1 2", "nul", "\"\xff\"", `{"a":1,"$b":2}`} {
		if _, err := Written([]byte(bad)); !errors.Is(err, ErrBadValue) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestTheFormOfPythonIsTheOneForm: whoever reads a value and writes it again changes nothing.
func TestTheFormOfPythonIsTheOneForm(t *testing.T) {
	text, err := os.ReadFile("../../protocol/vectors/store.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Values []struct{ JSON, Python string }
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Values) == 0 {
		t.Fatal("there are no values in the vectors")
	}
	for _, c := range golden.Values {
		v, err := Written([]byte(c.JSON))
		if err != nil {
			t.Errorf("%s: %v", c.JSON, err)
			continue
		}
		s := open(t, Limits{})
		if _, err := s.Set(Path{"v"}, v, 0); err != nil {
			t.Fatal(err)
		}
		want(t, s, "v", c.JSON)
	}
}
