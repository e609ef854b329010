package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Where   string // "guado.toml:12", "GUADO__SERVER__LISTEN", "--threads"; empty when it is about what is missing
	Key     string // "app.shop.threads"
	Value   string // as it was given; empty when it is about what is missing
	Message string // what is wrong and what to do

	line int // of the file, for the order in which they are told
}

// Error names place, key, value and what to do, in one line.
func (p Problem) Error() string {
	var b strings.Builder
	for _, part := range []string{p.Where, p.subject(), p.Message} {
		if part == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	return b.String()
}

func (p Problem) subject() string {
	if p.Key != "" && p.Value != "" {
		return p.Key + " = " + p.Value
	}
	return p.Key
}

// Problems is everything that is wrong, in the order of the file. It is the error
// of [Load] and [Config.Resolve]: all of it, so that one look is enough.
type Problems []Problem

// Error gives a line to each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// AsProblems finds the problems inside err.
func AsProblems(err error) (Problems, bool) {
	var ps Problems
	ok := errors.As(err, &ps)
	return ps, ok
}

// problems collects; the zero value is ready.
type problems struct{ list Problems }

func (ps *problems) add(o Origin, key, value, format string, args ...any) {
	p := Problem{Where: o.String(), Key: key, Value: value, Message: fmt.Sprintf(format, args...), line: o.Line}
	if o.Kind == FromDefault {
		p.Where = ""
	}
	ps.list = append(ps.list, p)
}

// merge adds what a later look found, but not what may follow from a problem that is
// known: a target that is no string is not missing, too.
func (ps *problems) merge(later Problems) {
	known := ps.list
	for _, p := range later {
		follows := func(k Problem) bool { return p.Where == "" || p.Key != "" && strings.HasPrefix(k.Key, p.Key) }
		if !slices.ContainsFunc(known, follows) {
			ps.list = append(ps.list, p)
		}
	}
}

// err gives what was collected, in the order of the file, or nil.
func (ps *problems) err() error {
	if len(ps.list) == 0 {
		return nil
	}
	slices.SortStableFunc(ps.list, func(a, b Problem) int {
		// Of one line, as an inline table is, by value: maps have no order.
		return cmp.Or(a.line-b.line, strings.Compare(a.Key, b.Key)*min(a.line, 1), strings.Compare(a.Value, b.Value)*min(a.line, 1))
	})
	return ps.list
}

// OriginKind says what kind of place a value comes from.
type OriginKind string

// Where values come from.
const (
	FromDefault OriginKind = "default"
	FromFile    OriginKind = "file"
	FromEnv     OriginKind = "environment"
	FromFlag    OriginKind = "flag"
)

// Origin is where a value comes from.
type Origin struct {
	Kind OriginKind
	Name string // the file, the variable, the flag
	Line int    // in the file
}

// String spells it as an operator looks for it: "guado.toml:12", "--threads".
func (o Origin) String() string {
	switch {
	case o.Kind == FromDefault || o.Kind == "":
		return string(FromDefault)
	case o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	}
	return o.Name
}

// Nearest gives the candidate that was most likely meant, or "".
func Nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap (optimal string
// alignment) between two words.
func distance(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// hint is the end of a message about an unknown word.
func hint(word string, candidates []string) string {
	if n := Nearest(word, candidates); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	if len(candidates) == 0 {
		return "there are none"
	}
	return "known are: " + strings.Join(candidates, ", ")
}
