package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that a file spells as "25s", "1m30s", or a number of
// seconds.
type Duration time.Duration

// Std gives the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String spells d so that [ParseDuration] reads it again: "25s", "1m30s", "0".
func (d Duration) String() string {
	switch {
	case d == 0:
		return "0"
	case d%Duration(time.Second) == 0 && d < 0:
		return strconv.FormatInt(int64(d/Duration(time.Second)), 10)
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText spells d for TOML and JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [ParseDuration] reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDuration reads "250ms", "25s", "1m30s", "1h", or a bare number of seconds.
func ParseDuration(s string) (Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return secondsToDuration(n)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write a number of seconds or \"250ms\", \"25s\", \"1m30s\"", s)
	}
	return Duration(v), nil
}

func secondsToDuration(n float64) (Duration, error) {
	ns := n * float64(time.Second)
	if math.IsNaN(ns) || ns > math.MaxInt64/2 || ns < -math.MaxInt64/2 {
		return 0, fmt.Errorf("%v seconds is out of range", n)
	}
	return Duration(math.Round(ns)), nil
}

// Size is a number of bytes that a file spells as "64KiB", "1MB", or a number.
type Size int64

// Bytes gives the number.
func (s Size) Bytes() int64 { return int64(s) }

// binaryUnits are spelled largest first, as [Size.String] tries them.
var binaryUnits = []struct {
	name   string
	factor int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// sizeUnits are the units [ParseSize] knows, in lower case. A lone letter is
// binary, as in the configuration of nginx and uWSGI.
var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// String spells s with the largest binary unit that divides it: "64KiB", "1500".
func (s Size) String() string {
	for _, u := range binaryUnits {
		if s != 0 && int64(s)%u.factor == 0 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText spells s for TOML and JSON.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [ParseSize] reads.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// ParseSize reads "64KiB", "10MB", "1.5GiB", "1M" (binary) or a number of bytes;
// the case of the unit does not matter.
func ParseSize(text string) (Size, error) {
	wrong := fmt.Errorf("%q is not a size; write a number of bytes or \"64KiB\", \"10MB\", \"1GiB\"", text)
	end := strings.LastIndexAny(text, "0123456789.") + 1
	factor, known := sizeUnits[strings.ToLower(strings.TrimSpace(text[end:]))]
	if !known {
		return 0, wrong
	}
	number := strings.TrimSpace(text[:end])
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/factor {
			return 0, wrong
		}
		return Size(n * factor), nil
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" || !(n >= 0) || n*float64(factor) > math.MaxInt64/2 {
		return 0, wrong
	}
	return Size(n * float64(factor)), nil
}
