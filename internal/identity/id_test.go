package identity

import (
	"strings"
	"testing"
)

func TestAnIDIsReadWithAndWithoutItsSlot(t *testing.T) {
	id := NewID()
	for _, c := range []struct{ text, base, slot string }{
		{id, id, ""}, {id + "|p01", id, "p01"}, {id + "|p99", id, "p99"}, {id + "|p100", id, "p100"},
	} {
		base, slot, err := ParseID(c.text)
		if base != c.base || slot != c.slot || err != nil {
			t.Errorf("%q: %q, %q, %v", c.text, base, slot, err)
		}
	}
	for _, bad := range []string{
		"", "|", "|p01", id[1:], id + "x", id + "|", id + "|p", id + "|p1", id + "|p00", id + "|p001", id + "|q01",
		id + "|p0x", id + "|p01|p02", strings.Replace(id, id[:1], "-", 1), id + "|p12345678",
	} {
		if base, slot, err := ParseID(bad); err == nil || base+slot != "" {
			t.Errorf("%q is taken for an id: %q, %q", bad, base, slot)
		}
	}
}
