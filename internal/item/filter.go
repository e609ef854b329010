package item

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Filter picks items: all of its conditions must be true. Names are those of an [Item] as
// JSON, and of the application's own fields.
type Filter map[string]Condition

// Condition is what a value must be. As JSON it is a value, which it must equal (null: there
// is none), or an object of the members below.
type Condition struct {
	equal   any
	has     bool // there is an equal
	in      []any
	prefix  *string
	matches *regexp.Regexp
	min     any
	max     any
}

// ErrFilter is told of a filter that cannot be understood.
var ErrFilter = errors.New(`a condition is a value, or an object of "in", "prefix", "matches", "min", "max"`)

// mostPattern bounds a regular expression.
const mostPattern = 1024

// UnmarshalJSON reads a condition.
func (c *Condition) UnmarshalJSON(text []byte) error {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	object, is := value.(map[string]any)
	if !is {
		c.equal, c.has = value, true
		return nil
	}
	if len(object) == 0 {
		return ErrFilter
	}
	for name, value := range object {
		if err := c.member(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *Condition) member(name string, value any) error {
	text, isText := value.(string)
	switch name {
	case "in":
		list, is := value.([]any)
		if !is {
			return fmt.Errorf("%w: \"in\" has a list", ErrFilter)
		}
		c.in = append(make([]any, 0, len(list)), list...) // an empty list is one, too: nothing is in it
	case "prefix":
		if !isText {
			return fmt.Errorf("%w: \"prefix\" has a text", ErrFilter)
		}
		c.prefix = &text
	case "matches":
		if !isText || len(text) > mostPattern {
			return fmt.Errorf("%w: \"matches\" has a regular expression of at most %d bytes", ErrFilter, mostPattern)
		}
		var err error
		if c.matches, err = regexp.Compile(text); err != nil {
			return fmt.Errorf("%w: %w", ErrFilter, err)
		}
	case "min":
		c.min = value
	case "max":
		c.max = value
	default:
		return fmt.Errorf("%w, not %.40q", ErrFilter, name)
	}
	return nil
}

// Equal is the text that a value must equal, if a condition says so.
func (f Filter) Equal(name string) (text string, ok bool) {
	c, is := f[name]
	if !is || !c.has {
		return "", false
	}
	text, ok = c.equal.(string)
	return text, ok
}

// Match reports whether all conditions are true of an item.
func (f Filter) Match(i *Item) bool {
	var own map[string]any
	for name := range f {
		value, known := i.value(name)
		if !known {
			if own == nil {
				own = map[string]any{}
				if i.Fields != nil {
					_ = json.Unmarshal(i.Fields, &own) // it was JSON when it was put there
				}
			}
			value = own[name]
		}
		c := f[name]
		if !c.match(value) {
			return false
		}
	}
	return true
}

func (c *Condition) match(value any) bool {
	if c.has && !same(value, c.equal) ||
		c.in != nil && !slices.ContainsFunc(c.in, func(one any) bool { return same(value, one) }) {
		return false
	}
	if c.prefix != nil || c.matches != nil {
		text, is := value.(string)
		if !is || c.prefix != nil && !strings.HasPrefix(text, *c.prefix) || c.matches != nil && !c.matches.MatchString(text) {
			return false
		}
	}
	return (c.min == nil || compares(value, c.min, func(n int) bool { return n >= 0 })) &&
		(c.max == nil || compares(value, c.max, func(n int) bool { return n <= 0 }))
}

// same reports whether two values are equal; times also when they are spelt otherwise.
func same(a, b any) bool {
	if n, can := order(a, b); can {
		return n == 0
	}
	switch a.(type) {
	case map[string]any, []any:
		x, errA := json.Marshal(a)
		y, errB := json.Marshal(b)
		return errA == nil && errB == nil && string(x) == string(y)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

func compares(a, b any, want func(int) bool) bool {
	n, can := order(a, b)
	return can && want(n)
}

// order compares two values of one kind.
func order(a, b any) (n int, can bool) {
	switch a := a.(type) {
	case time.Time:
		if text, is := b.(string); is {
			t, err := time.Parse(time.RFC3339Nano, text)
			// Python and JavaScript have no nanoseconds: an item's own moment must match it.
			return a.Truncate(time.Microsecond).Compare(t.Truncate(time.Microsecond)), err == nil
		}
	case string:
		if b, is := b.(string); is {
			return cmp.Compare(a, b), true
		}
	case float64:
		if b, is := b.(float64); is {
			return cmp.Compare(a, b), true
		}
	}
	return 0, false
}

// value gives what an item itself says under a name; nil: nothing. known is false for names
// of the application's own.
func (i *Item) value(name string) (value any, known bool) {
	switch name {
	case "id":
		return i.ID, true
	case "user":
		return text(i.User), true
	case "connection":
		return text(i.Connection), true
	case "flag":
		return text(i.Flag), true
	case "address":
		return text(i.Address), true
	case "user_agent":
		return text(i.Agent), true
	case "app":
		return text(i.App), true
	case "class":
		return text(i.Class), true
	case "path":
		return text(i.Path), true
	case "started":
		return i.Started, true
	case "last_seen":
		return i.Seen, true
	case "connected":
		return i.Connected, true
	case "claimed":
		return i.Claimed, true
	case "pages":
		return float64(i.Pages), true
	case "connections":
		return float64(i.Connections), true
	}
	return nil, false
}

// text is a value that an empty text is none of.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}
