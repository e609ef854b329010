package identity

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	anyBase = rapid.StringMatching(`[A-Za-z0-9_]{22}`)
	anySlot = rapid.StringMatching(`p(0[1-9]|[1-9][0-9]{1,4})`)
)

func TestWhatIsAnIDIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, wantSlot := anyBase.Draw(t, "base"), ""
		text := want
		if rapid.Bool().Draw(t, "with a slot") {
			wantSlot = anySlot.Draw(t, "slot")
			text += "|" + wantSlot
		}
		base, slot, err := ParseID(text)
		if err != nil || base != want || slot != wantSlot {
			t.Fatalf("%q: %q, %q, %v", text, base, slot, err)
		}
	})
}

// There is one spelling: what is read can be written again, and nothing else is read.
func TestWhateverIsReadAsAnIDIsOne(t *testing.T) {
	near := rapid.Custom(func(t *rapid.T) string { // an id with something done to it
		text := []byte(anyBase.Draw(t, "base") + "|" + anySlot.Draw(t, "slot"))
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			text[at] = rapid.Byte().Draw(t, "byte")
		case 1:
			text = append(text[:at], text[at+1:]...)
		default:
			text = append(text[:at], append([]byte{rapid.Byte().Draw(t, "byte")}, text[at:]...)...)
		}
		return string(text)
	})
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), near).Draw(t, "text")
		base, slot, err := ParseID(text)
		if err != nil {
			if base+slot != "" {
				t.Fatalf("%q: %q, %q with an error", text, base, slot)
			}
			return
		}
		again := base
		if slot != "" {
			again += "|" + slot
		}
		if again != text || len(base) != 22 || strings.Trim(base, idLetters) != "" {
			t.Fatalf("%q was read as %q, %q", text, base, slot)
		}
	})
}

func TestWhatIsNearlyAnIDIsNone(t *testing.T) {
	id := NewID()
	for _, bad := range []string{
		"", "|", "|p01", id[1:], id + "x", id + "|", id + "|p", id + "|p1", id + "|p00", id + "|p001", id + "|p010", id + "|q01",
		id + "|p0x", id + "|p01|p02", "-" + id[1:], id + "|p12345678", id + "|p01 ", " " + id, "é" + id[2:],
	} {
		if base, slot, err := ParseID(bad); err == nil || base+slot != "" {
			t.Errorf("%q is taken for an id: %q, %q", bad, base, slot)
		}
	}
}

func TestNewIDsAreIDsAndNeverTheSame(t *testing.T) {
	seen := map[string]bool{}
	count := [256]int{}
	for range 10_000 {
		id := NewID()
		if base, slot, err := ParseID(id); base != id || slot != "" || err != nil || seen[id] {
			t.Fatalf("%q: %q, %q, %v, seen %v", id, base, slot, err, seen[id])
		}
		seen[id] = true
		for i := range len(id) {
			count[id[i]]++
		}
	}
	// 220,000 letters of 63: each 3,492 times, give or take 59. Ten times that is no chance.
	for _, c := range []byte(idLetters) {
		if count[c] < 2900 || count[c] > 4100 {
			t.Errorf("%q came %d times", c, count[c])
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("abcdefghijklmnopqrstuv|p01")
	f.Fuzz(func(t *testing.T, text string) {
		base, slot, err := ParseID(text)
		if err == nil && text != base && text != base+"|"+slot {
			t.Errorf("%q: %q, %q", text, base, slot)
		}
	})
}
