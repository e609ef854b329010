package pages

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTheJarOfAPageIsKeptAsABrowserKeepsIt(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		field string
		set   []string
		want  string
	}{
		{"", []string{"a=1; Path=/; HttpOnly"}, "a=1"},
		{"a=1; b=2", []string{"a=3"}, "b=2; a=3"},
		{"a=1; b=2", []string{"a=; Max-Age=0", "c=x=y"}, "b=2; c=x=y"},
		{"a=1", []string{"a=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"}, ""},
		{"a=1", []string{"no cookie", "b=2"}, "a=1; b=2"},
	} {
		if got := withCookies(c.field, c.set, now); got != c.want {
			t.Errorf("%q with %q: %q, want %q", c.field, c.set, got, c.want)
		}
	}
	jar := "first=1"
	for i := range 1000 {
		jar = withCookies(jar, []string{fmt.Sprintf("c%d=%s", i, strings.Repeat("x", 500))}, now)
	}
	if len(jar) > mostJar || strings.Contains(jar, "first") || !strings.Contains(jar, "c999=") {
		t.Errorf("a jar of %d bytes", len(jar))
	}
}
