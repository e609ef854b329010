package bus

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of topics and patterns. That of words also bounds how deep the index is.
const (
	maxTopic = 256 // bytes
	maxWords = 16
)

// TopicError says why a text is no topic, or no pattern of topics.
type TopicError struct {
	Text    string
	Pattern bool
	Why     string
}

func (e *TopicError) Error() string {
	what := "topic"
	if e.Pattern {
		what = "pattern of topics"
	}
	return fmt.Sprintf("%.80q is no %s: %s", e.Text, what, e.Why)
}

// CheckTopic wants what can be published: words separated by dots.
func CheckTopic(topic string) error {
	if why := flaw(topic, false); why != "" {
		return &TopicError{Text: topic, Why: why}
	}
	return nil
}

// CheckPattern wants what can be subscribed: a topic in which a word may be *, which is
// any one word, and the last one >, which is any words, one or more.
func CheckPattern(pattern string) error {
	if why := flaw(pattern, true); why != "" {
		return &TopicError{Text: pattern, Pattern: true, Why: why}
	}
	return nil
}

// flaw tells what is wrong with a text; nothing: it is right.
func flaw(text string, pattern bool) string {
	switch {
	case text == "":
		return "it is empty"
	case len(text) > maxTopic:
		return fmt.Sprintf("it is longer than %d bytes", maxTopic)
	case !utf8.ValidString(text):
		return "it is not UTF-8"
	}
	for n := 1; ; n++ {
		word, rest, more := strings.Cut(text, ".")
		if n > maxWords {
			return fmt.Sprintf("it has more than %d words", maxWords)
		}
		if why := flawOfWord(word, pattern, !more); why != "" {
			return why
		}
		if !more {
			return ""
		}
		text = rest
	}
}

func flawOfWord(word string, pattern, last bool) string {
	switch {
	case word == "":
		return "a word between its dots is empty"
	case pattern && word == "*", pattern && last && word == ">":
		return ""
	case pattern && word == ">":
		return "> stands at the end only"
	case strings.ContainsAny(word, "*>"):
		if pattern {
			return "* and > are whole words"
		}
		return "* and > are for patterns"
	case strings.ContainsFunc(word, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "it has white space or control characters"
	}
	return ""
}
