package globalstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Value is what can be put at a path: one leaf, or a dict of values. The bytes of a leaf are
// those of protocol/store.md, section 1.
type Value struct {
	leaf  []byte
	dict  bool
	below []pair
	size  int64 // of the JSON
}

type pair struct {
	key   string
	value Value
}

// What can be wrong with what is asked.
var (
	ErrBadValue = errors.New("this is no value of a store (protocol/store.md)")
	ErrBadPath  = errors.New("this is no path of a store")
)

// Check says what is wrong with a path.
func (p Path) Check() error {
	switch {
	case len(p) == 0:
		return fmt.Errorf("%w: it has at least one key", ErrBadPath)
	case len(p) > mostKeys:
		return fmt.Errorf("%w: it has %d keys, at most %d are allowed", ErrBadPath, len(p), mostKeys)
	}
	for _, key := range p {
		if len(key) > mostKey {
			return fmt.Errorf("%w: a key has %d bytes, at most %d are allowed", ErrBadPath, len(key), mostKey)
		}
	}
	return nil
}

// fits says what is wrong with the keys of a value at a path.
func (v *Value) fits(p Path) error {
	if len(p) > mostKeys {
		return fmt.Errorf("%w: the value has dicts in it that lie too deep, at most %d keys are allowed", ErrBadPath, mostKeys)
	}
	for i := range v.below {
		c := &v.below[i]
		if len(c.key) > mostKey {
			return fmt.Errorf("%w: a key has %d bytes, at most %d are allowed", ErrBadPath, len(c.key), mostKey)
		}
		if err := c.value.fits(append(p[:len(p):len(p)], c.key)); err != nil {
			return err
		}
	}
	return nil
}

func (v *Value) cost(key string) int64 {
	sum := costOf(key) + int64(len(v.leaf))
	for i := range v.below {
		sum += v.below[i].value.cost(v.below[i].key)
	}
	return sum
}

// Exact reads a value whose leaves have the one form of protocol/store.md already.
func Exact(text []byte) (Value, error) { return parse(text, exact) }

// Written reads a value that people, or programs in other languages, have written, and gives
// its leaves the one form.
func Written(text []byte) (Value, error) { return parse(text, written) }

func parse(text []byte, leaf func([]byte) ([]byte, error)) (Value, error) {
	text = bytes.TrimSpace(text)
	if !json.Valid(text) || !utf8.Valid(text) {
		return Value{}, ErrBadValue
	}
	v, err := valueOf(text, leaf)
	v.size = int64(len(text))
	return v, err
}

func valueOf(text []byte, leaf func([]byte) ([]byte, error)) (Value, error) {
	if text[0] != '{' {
		b, err := leaf(text)
		return Value{leaf: b}, err
	}
	v := Value{dict: true}
	tagged := false
	at := map[string]int{}
	err := eachPair(text, func(key string, raw []byte) error {
		if len(v.below) == 0 && strings.HasPrefix(key, "$") {
			tagged = true
		}
		if tagged {
			return nil
		}
		if strings.HasPrefix(key, "$") {
			return fmt.Errorf("%w: the key %q of an object begins with a dollar sign, and is not its first", ErrBadValue, key)
		}
		c, err := valueOf(raw, leaf)
		if i, twice := at[key]; twice {
			v.below[i].value = c
		} else {
			at[key] = len(v.below)
			v.below = append(v.below, pair{key, c})
		}
		return err
	})
	if err == nil && tagged {
		b, err := leaf(text)
		return Value{leaf: b}, err
	}
	return v, err
}

// eachPair walks over an object, which is valid JSON.
func eachPair(text []byte, f func(key string, value []byte) error) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadValue, err)
	}
	for d.More() {
		key, err := d.Token()
		var raw json.RawMessage
		if err == nil {
			err = d.Decode(&raw)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadValue, err)
		}
		name, _ := key.(string)
		if err := f(name, raw); err != nil {
			return err
		}
	}
	return nil
}

// exact keeps a leaf as it is, but for spaces.
func exact(text []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadValue, err)
	}
	return b.Bytes(), nil
}

// written gives a leaf the one form: of texts, and of numbers.
func written(text []byte) ([]byte, error) {
	var out []byte
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	type level struct {
		object bool
		tokens int
	}
	var levels []level
	before := func() {
		if len(levels) == 0 {
			return
		}
		l := &levels[len(levels)-1]
		switch {
		case l.object && l.tokens%2 == 1:
			out = append(out, ':')
		case l.tokens > 0:
			out = append(out, ',')
		}
		l.tokens++
	}
	for d.More() || len(levels) > 0 {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadValue, err)
		}
		if close, is := token.(json.Delim); is && (close == '}' || close == ']') {
			out, levels = append(out, byte(close)), levels[:len(levels)-1]
			continue
		}
		before()
		switch t := token.(type) {
		case json.Delim:
			out, levels = append(out, byte(t)), append(levels, level{object: t == '{'})
		case string:
			out = appendText(out, t)
		case json.Number:
			out = appendNumber(out, string(t))
		case bool:
			out = strconv.AppendBool(out, t)
		default:
			out = append(out, "null"...)
		}
	}
	return out, nil
}

// appendText writes a text as the one form has it.
func appendText(out []byte, text string) []byte {
	out = append(out, '"')
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		case '\b':
			out = append(out, `\b`...)
		case '\f':
			out = append(out, `\f`...)
		default:
			if c < 0x20 {
				out = fmt.Appendf(out, `\u%04x`, c)
				continue
			}
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// appendNumber writes a number of JSON as the one form has it: whole ones as they are, others
// as Python shows them.
func appendNumber(out []byte, text string) []byte {
	if n, whole := new(big.Int).SetString(text, 10); whole {
		return appendInt(out, n)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) {
		return append(out, text...)
	}
	return appendFloat(out, f)
}

const mostPlain = 1<<53 - 1

func appendInt(out []byte, n *big.Int) []byte {
	if n.IsInt64() && n.Int64() >= -mostPlain && n.Int64() <= mostPlain {
		return n.Append(out, 10)
	}
	sign := ""
	if n.Sign() < 0 {
		sign = "-"
	}
	return fmt.Appendf(out, `{"$int":"%s0x%x"}`, sign, new(big.Int).Abs(n))
}

func appendFloat(out []byte, f float64) []byte {
	if math.IsInf(f, 0) {
		return fmt.Appendf(out, `{"$float":"%s"}`, strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+")))
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(text, "e")
	if e, err := strconv.Atoi(exponent); err == nil && e >= -4 && e < 16 {
		if text = strconv.FormatFloat(f, 'f', -1, 64); !strings.Contains(text, ".") {
			text += ".0"
		}
		return append(out, text...)
	}
	return append(append(append(out, mantissa...), 'e'), exponent...)
}

// addNumbers adds two whole numbers.
func addNumbers(a, b []byte) ([]byte, error) {
	x, y := wholeNumber(a), wholeNumber(b)
	if x == nil || y == nil {
		return nil, ErrNoCounter
	}
	return appendInt(nil, x.Add(x, y)), nil
}

// mostDigits bounds the work of one addition.
const mostDigits = 1 << 10

func wholeNumber(text []byte) *big.Int {
	base, digits := 10, string(text)
	if rest, tagged := strings.CutPrefix(digits, `{"$int":"`); tagged {
		rest, _ = strings.CutSuffix(rest, `"}`)
		base, digits = 16, strings.Replace(rest, "0x", "", 1)
	}
	if len(digits) > mostDigits {
		return nil
	}
	n, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil
	}
	return n
}
