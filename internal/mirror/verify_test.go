package mirror

import (
	"errors"
	"slices"
	"testing"
)

func verifies(snapshot []byte) []byte { return appendBytes([]byte{byte(opVerify), 0}, snapshot) }

func list(key string, items ...string) []byte {
	out := appendPath([]byte{byte(opList)}, []string{key})
	out = append(out, byte(len(items)), 0, 0, 0)
	for _, item := range items {
		out = appendBytes(out, []byte(item))
	}
	return out
}

func inCart(key, value string) []byte {
	return appendBytes(appendPath([]byte{byte(opSet)}, []string{"cart", key}), []byte(value))
}

func TestADifferenceIsFoundByItsPathAtTheSameCommit(t *testing.T) {
	cart := appendPath([]byte{byte(opClear)}, []string{"cart"})
	here := slices.Concat(cart, inCart("x", "1"), inCart("y", "2"), list("l", "1", "2"), appendBytes([]byte{byte(opChange), 0}, []byte("c")))
	for name, c := range map[string]struct {
		theirs []byte
		want   Difference
	}{
		"none":                   {here, Difference{}},
		"a leaf":                 {slices.Concat(cart, inCart("x", "1"), inCart("y", "3"), list("l", "1", "2"), here[len(here)-7:]), Difference{Path: "cart.y", Worker: "3", Host: "2"}},
		"a leaf that is no more": {slices.Concat(cart, inCart("x", "1"), list("l", "1", "2"), here[len(here)-7:]), Difference{Path: "cart.y", Host: "2"}},
		"one too many":           {slices.Concat(here[:len(here)-7], set("z", "9"), here[len(here)-7:]), Difference{Path: "z", Worker: "9"}},
		"an item":                {slices.Concat(cart, inCart("x", "1"), inCart("y", "2"), list("l", "1", "5"), here[len(here)-7:]), Difference{Path: "l[1]", Worker: "5", Host: "2"}},
		"a length":               {slices.Concat(cart, inCart("x", "1"), inCart("y", "2"), list("l", "1"), here[len(here)-7:]), Difference{Path: "l", Worker: "1 items", Host: "2 items"}},
		"an order":               {slices.Concat(cart, inCart("y", "2"), inCart("x", "1"), list("l", "1", "2"), here[len(here)-7:]), Difference{Path: "cart (the order of its keys)", Worker: "y, x", Host: "x, y"}},
		"another kind":           {slices.Concat(cart, inCart("x", "1"), inCart("y", "2"), set("l", "1"), here[len(here)-7:]), Difference{Path: "l", Worker: "1", Host: "[1,2]"}},
		"a change":               {here[:len(here)-7], Difference{Path: "changes[0]", Host: "c"}},
		"nothing but theirs":     {nil, Difference{Path: "cart", Host: `{"x":1,"y":2}`}},
	} {
		m := open(t)
		var from Source
		var kept []byte
		m.Journal(func(all []Changed, _ any) {
			for _, one := range all {
				kept = append(kept, one.Records...)
			}
		})
		data := slices.Concat(here, verifies(c.theirs))
		if err := m.Apply(&from, frame(1, "anna", m.Generation("anna"), page, 6, data)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := from.Found()
		if st := m.Status(); st.Compared != 1 || st.Differences != uint64(len(found)) {
			t.Errorf("%s: %+v", name, st)
		}
		if c.want != (Difference{}) {
			c.want.Kind, c.want.ID, c.want.Sequence = "page", page.ID, 1
			if len(found) != 1 || found[0] != c.want {
				t.Errorf("%s: %+v, not %+v", name, found, c.want)
			}
		} else if len(found) != 0 {
			t.Errorf("%s: %+v", name, found)
		}
		if !slices.Equal(kept, here) {
			t.Errorf("%s: what is to be kept of the commit is %x", name, kept)
		}
		if len(from.Found()) != 0 {
			t.Errorf("%s: it is found twice", name)
		}
	}
}

func TestASnapshotToCompareThatIsNoneIsCorrupt(t *testing.T) {
	for name, c := range map[string]struct {
		count int
		data  []byte
	}{
		"no snapshot":         {1, verifies([]byte{77})},
		"not the last record": {2, slices.Concat(verifies(nil), set("a", "1"))},
		"a path":              {1, appendBytes(appendPath([]byte{byte(opVerify)}, []string{"a"}), nil)},
		"two of them":         {2, slices.Concat(verifies(nil), verifies(nil))},
	} {
		m := open(t)
		if err := m.Apply(&Source{}, frame(1, "anna", m.Generation("anna"), page, c.count, c.data)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
