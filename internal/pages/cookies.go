package pages

import (
	"net/http"
	"strings"
	"time"
)

// withCookies gives the Cookie field that a browser would send after an answer with these
// Set-Cookie fields. Paths and domains are not looked at: the cookies are the page's, and
// its next handshake brings the browser's own.
func withCookies(field string, set []string, now time.Time) string {
	type pair struct{ name, whole string }
	var jar []pair
	for part := range strings.SplitSeq(field, ";") {
		if part = strings.TrimSpace(part); part != "" {
			name, _, _ := strings.Cut(part, "=")
			jar = append(jar, pair{name, part})
		}
	}
	for _, line := range set {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			continue // no browser would keep it either
		}
		kept := jar[:0]
		for _, p := range jar {
			if p.name != c.Name {
				kept = append(kept, p)
			}
		}
		jar = kept
		if c.MaxAge < 0 || c.MaxAge == 0 && !c.Expires.IsZero() && !c.Expires.After(now) {
			continue
		}
		value, _, _ := strings.Cut(line, ";")
		jar = append(jar, pair{c.Name, strings.TrimSpace(value)})
	}
	all := make([]string, len(jar))
	size := 0
	for i, p := range jar {
		all[i] = p.whole
		size += len(p.whole) + len("; ")
	}
	for size > mostJar && len(all) > 1 { // as browsers do: the oldest go
		size -= len(all[0]) + len("; ")
		all = all[1:]
	}
	return strings.Join(all, "; ")
}

// mostJar is how many bytes of cookies a page's next requests carry.
const mostJar = 32 << 10
