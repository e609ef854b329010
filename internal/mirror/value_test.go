package mirror

import (
	"errors"
	"testing"
)

func TestAValueIsReadOfAnyPathInItsOneForm(t *testing.T) {
	m := open(t)
	at := func(o op, keys ...string) []byte { return appendPath([]byte{byte(o)}, keys) }
	item := func(text string) []byte { return appendBytes([]byte{}, []byte(text)) }
	records := append(at(opSet, "b"), item("1")...)
	records = append(records, append(append(at(opList, "a", "list"), 2, 0, 0, 0), append(item(`{"x":1}`), item(`"y"`)...)...)...)
	records = append(records, append(at(opSet, "a", "q\"\n"), item("null")...)...)
	records = append(records, append(at(opSet, "tag", "$x"), item("2")...)...)
	records = append(records, at(opClear, "none")...)
	if err := m.Apply(&Source{}, frame(1, "anna", m.Generation("anna"), page, 5, records)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path []string
		want string
	}{
		{nil, `{"b":1,"a":{"list":[{"x":1},"y"],"q\"\n":null},"tag":{"$dict":[["$x",2]]},"none":{}}`},
		{[]string{"a", "list"}, `[{"x":1},"y"]`},
		{[]string{"b"}, "1"},
		{[]string{"none"}, "{}"},
		{[]string{"a", "nothing"}, ""},
		{[]string{"b", "below"}, ""},
	} {
		got, ok, err := m.Value(page, c.path)
		if err != nil || ok != (c.want != "") || string(got) != c.want {
			t.Errorf("%q: %s %v %v, want %s", c.path, got, ok, err, c.want)
		}
	}
	if _, _, err := m.Value(Ref{Page, "other"}, nil); !errors.Is(err, ErrNoStore) {
		t.Error(err)
	}
}

func TestTheTokensOfLocksBeginAnewWithTheWorkerThatGetsTheStore(t *testing.T) {
	m := open(t)
	under := func(from *Source, token byte) error {
		f := frame(from.last+1, "anna", m.Generation("anna"), page, 1, set("a", "1"))
		f[len(f)-len(set("a", "1"))-16] = token
		return m.Apply(from, f)
	}
	before, next := &Source{}, &Source{}
	if err := under(before, 41); err != nil {
		t.Fatal(err)
	}
	if err := under(before, 40); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a token that falls: %v", err)
	}
	if _, _, err := m.Hand(page); err != nil {
		t.Fatal(err)
	}
	if err := under(next, 1); err != nil {
		t.Errorf("the first lock of the next worker: %v", err)
	}
	if _, _, err := m.Hand(Ref{Page, "other"}); !errors.Is(err, ErrNoStore) {
		t.Error(err)
	}
}
