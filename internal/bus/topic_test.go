package bus

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestTopicsAndPatternsAreWordsBetweenDots(t *testing.T) {
	for _, c := range []struct {
		text           string
		topic, pattern bool
	}{
		{"dbevent", true, true},
		{"invoice.paid", true, true},
		{"user.anna@example.org.notify", true, true},
		{"größe.änderung", true, true},
		{"*", false, true},
		{">", false, true},
		{"invoice.*", false, true},
		{"*.paid.*", false, true},
		{"invoice.>", false, true},
		{"", false, false},
		{".", false, false},
		{"invoice.", false, false},
		{".paid", false, false},
		{"invoice..paid", false, false},
		{"invoice.>.paid", false, false},
		{"invoice.pa*", false, false},
		{"invoice.>>", false, false},
		{"two words", false, false},
		{"new\nline", false, false},
		{"nul\x00", false, false},
		{"\xff", false, false},
		{strings.Repeat("a", maxTopic), true, true},
		{strings.Repeat("a", maxTopic+1), false, false},
		{strings.Repeat("a.", maxWords-1) + "a", true, true},
		{strings.Repeat("a.", maxWords) + "a", false, false},
	} {
		var flaw *TopicError
		if err := CheckTopic(c.text); (err == nil) != c.topic || err != nil && !errors.As(err, &flaw) {
			t.Errorf("topic %q: %v", c.text, err)
		}
		if err := CheckPattern(c.text); (err == nil) != c.pattern || err != nil && !errors.As(err, &flaw) {
			t.Errorf("pattern %q: %v", c.text, err)
		}
	}
}

// matches is the meaning of patterns, written once more in another way.
func matches(pattern, topic string) bool {
	p, t := strings.Split(pattern, "."), strings.Split(topic, ".")
	if last := len(p) - 1; p[last] == ">" {
		if len(t) < len(p) {
			return false
		}
		p, t = p[:last], t[:last]
	}
	return slices.EqualFunc(p, t, func(p, t string) bool { return p == t || p == "*" })
}

func TestTheIndexFindsWhatPatternsMeanAndForgetsWhatIsTakenOut(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	words := []string{"a", "b", "c", "d"}
	some := func(pattern bool) string {
		n := 1 + random.IntN(4)
		list := make([]string, n)
		for i := range list {
			list[i] = words[random.IntN(len(words))]
			if pattern && random.IntN(4) == 0 {
				list[i] = "*"
			}
		}
		if pattern && random.IntN(4) == 0 {
			list[n-1] = ">"
		}
		return strings.Join(list, ".")
	}
	var root node
	type entry struct {
		pattern string
		who     *Subscriber
	}
	var in []entry
	for range 2000 {
		if len(in) > 0 && random.IntN(5) < 2 {
			i := random.IntN(len(in))
			root.remove(in[i].pattern, in[i].who)
			in = slices.Delete(in, i, i+1)
		} else {
			e := entry{some(true), &Subscriber{}}
			root.insert(e.pattern, e.who)
			in = append(in, e)
		}
		topic := some(false)
		want, got := map[*Subscriber]bool{}, map[*Subscriber]bool{}
		for _, e := range in {
			if matches(e.pattern, topic) {
				want[e.who] = true
			}
		}
		root.match(topic, func(s *Subscriber) { got[s] = true })
		if len(want) != len(got) {
			t.Fatalf("topic %s: %d found, %d match", topic, len(got), len(want))
		}
		for s := range want {
			if !got[s] {
				t.Fatalf("topic %s: one that matches is not found", topic)
			}
		}
	}
	for _, e := range in {
		root.remove(e.pattern, e.who)
	}
	if !root.empty() {
		t.Errorf("the index keeps %+v", root)
	}
}

func FuzzAPatternMatchesATopicAsItsMeaningSays(f *testing.F) {
	for _, s := range [][2]string{{"a.*", "a.b"}, {">", "a"}, {"a.>", "a"}, {"*.*", "a.b.c"}, {"é.>", "é.\u00a0"}, {"a..b", "a.b"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		if CheckTopic(topic) != nil {
			return
		}
		if CheckPattern(topic) != nil {
			t.Errorf("%q is a topic and no pattern", topic)
		}
		if CheckPattern(pattern) != nil {
			return
		}
		var root node
		who := &Subscriber{}
		root.insert(pattern, who)
		found := false
		root.match(topic, func(*Subscriber) { found = true })
		if found != matches(pattern, topic) {
			t.Errorf("%q and %q: %v", pattern, topic, found)
		}
		if root.remove(pattern, who); !root.empty() {
			t.Errorf("the index keeps %q", pattern)
		}
	})
}
