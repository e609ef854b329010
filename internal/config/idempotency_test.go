package config

import (
	"strings"
	"testing"
)

func TestWhatIsWrongWithKeepingAnswers(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ text, want string }{
		{"[[mount]]\nstatic = \".\"\nidempotency = true\n", "for mounts of an app"},
		{"[[mount]]\napp = \"shop\"\nidempotency_required = true\n", "without idempotency = true"},
		{"[idempotency]\nanswer = \"2MiB\"\nbytes = \"1MiB\"\n", "at most idempotency.bytes"},
		{"[idempotency]\nttl = \"10ms\"\n", "idempotency.ttl"},
		{"[idempotency]\nanswers = 0\n", "idempotency.answers"},
	} {
		if ps := problemsOf(t, dir, c.text+shop+"[[mount]]\npath = \"/shop\"\napp = \"shop\"\n"); !strings.Contains(ps, c.want) {
			t.Errorf("%s\nis refused with %q, without %q", c.text, ps, c.want)
		}
	}
	mustLoad(t, dir, "[idempotency]\nttl = \"24h\"\nanswer = \"16KiB\"\nbytes = \"1GiB\"\nanswers = 1000000\n[[mount]]\napp = \"shop\"\nidempotency = true\nidempotency_required = true\n"+shop)
}
