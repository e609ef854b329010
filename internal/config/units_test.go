package config

import (
	"testing"
	"time"
)

func TestDurationsAreReadAndSpelled(t *testing.T) {
	for text, want := range map[string]struct {
		d time.Duration
		s string
	}{
		"25s": {25 * time.Second, "25s"}, "25": {25 * time.Second, "25s"}, "0.5": {500 * time.Millisecond, "500ms"},
		"90s": {90 * time.Second, "1m30s"}, "60": {time.Minute, "1m"}, "1h": {time.Hour, "1h"}, "0": {0, "0"}, "0s": {0, "0"},
		"250ms": {250 * time.Millisecond, "250ms"}, "1h0m5s": {time.Hour + 5*time.Second, "1h0m5s"},
	} {
		d, err := ParseDuration(text)
		if err != nil || d.Std() != want.d || d.String() != want.s {
			t.Errorf("%q: %v (%q), %v", text, d.Std(), d.String(), err)
		}
	}
	for _, text := range []string{"", "x", "25 s", "1e300", "NaN", "Inf"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken as %v", text, d)
		}
	}
}

func TestSizesAreReadAndSpelled(t *testing.T) {
	for text, want := range map[string]struct {
		n int64
		s string
	}{
		"64KiB": {64 << 10, "64KiB"}, "64k": {64 << 10, "64KiB"}, "10MB": {10e6, "10000000"}, "1GiB": {1 << 30, "1GiB"}, "1gib": {1 << 30, "1GiB"},
		"0": {0, "0"}, "1500": {1500, "1500"}, "1500B": {1500, "1500"}, "1.5 GiB": {3 << 29, "1536MiB"}, "2TiB": {2 << 40, "2TiB"},
	} {
		n, err := ParseSize(text)
		if err != nil || n.Bytes() != want.n || n.String() != want.s {
			t.Errorf("%q: %d (%q), %v", text, n, n.String(), err)
		}
	}
	for _, text := range []string{"", "x", "-1", "5 XB", "1e3KiB", "9999999999TiB", "NaN", "KiB"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken as %d", text, n)
		}
	}
}
