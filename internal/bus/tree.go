package bus

import "strings"

// node is a place in the index of patterns: the words before it led here. A topic is
// looked up word by word, so what it costs depends on its words and on who gets the event,
// not on how many subscriptions there are.
type node struct {
	words map[string]*node
	any   *node // *
	here  subscribers
	rest  subscribers // whose pattern ends here with >
}

type subscribers map[*Subscriber]struct{}

func (s *subscribers) add(who *Subscriber) {
	if *s == nil {
		*s = subscribers{}
	}
	(*s)[who] = struct{}{}
}

func (s *subscribers) remove(who *Subscriber) {
	if delete(*s, who); len(*s) == 0 {
		*s = nil // maps do not shrink
	}
}

// insert adds a pattern that was checked.
func (n *node) insert(pattern string, who *Subscriber) {
	word, rest, more := strings.Cut(pattern, ".")
	if word == ">" {
		n.rest.add(who)
		return
	}
	next := n.child(word)
	if next == nil {
		next = &node{}
		n.attach(word, next)
	}
	if more {
		next.insert(rest, who)
	} else {
		next.here.add(who)
	}
}

// child is the node behind a word of a pattern; nil: there is none.
func (n *node) child(word string) *node {
	if word == "*" {
		return n.any
	}
	return n.words[word]
}

func (n *node) attach(word string, next *node) {
	switch {
	case word == "*":
		n.any = next
	case n.words == nil:
		n.words = map[string]*node{word: next}
	default:
		n.words[word] = next
	}
}

// remove takes a pattern out, and the nodes that only it needed.
func (n *node) remove(pattern string, who *Subscriber) {
	word, rest, more := strings.Cut(pattern, ".")
	if word == ">" {
		n.rest.remove(who)
		return
	}
	next := n.child(word)
	if next == nil {
		return
	}
	if more {
		next.remove(rest, who)
	} else {
		next.here.remove(who)
	}
	if !next.empty() {
		return
	}
	if word == "*" {
		n.any = nil
	} else if delete(n.words, word); len(n.words) == 0 {
		n.words = nil
	}
}

func (n *node) empty() bool {
	return n.words == nil && n.any == nil && n.here == nil && n.rest == nil
}

// match visits those whose patterns match a topic; one with several of them as often.
func (n *node) match(topic string, visit func(*Subscriber)) {
	for s := range n.rest {
		visit(s)
	}
	word, rest, more := strings.Cut(topic, ".")
	for _, next := range [2]*node{n.words[word], n.any} {
		switch {
		case next == nil:
		case more:
			next.match(rest, visit)
		default:
			for s := range next.here {
				visit(s)
			}
		}
	}
}
