package identity

import (
	"crypto/rand"
	"errors"
	"strings"
)

// idLength is that of ids of pages and connections, as legacy applications know them.
const idLength = 22

const idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

// ErrID: what should be an id is none.
var ErrID = errors.New("an id has 22 letters, digits or \"_\", and perhaps \"|\" and a slot behind it, as |p02")

// NewID makes an id that nobody can guess: 131 bits.
func NewID() string {
	var id [idLength]byte
	var random [2 * idLength]byte
	for n := 0; n < idLength; {
		_, _ = rand.Read(random[:]) // it never fails: without randomness the program ends
		for _, b := range random {
			// 252 is the largest multiple of the letters in a byte: all are as likely.
			if int(b) < 4*len(idLetters) && n < idLength {
				id[n] = idLetters[int(b)%len(idLetters)]
				n++
			}
		}
	}
	return string(id[:])
}

// ParseID takes an id apart: "base", or "base|p02", whose slot is a hint and never proof.
func ParseID(id string) (base, slot string, err error) {
	base, slot, two := strings.Cut(id, "|")
	if len(base) != idLength || two && !isSlot(slot) {
		return "", "", ErrID
	}
	for i := range len(base) {
		if !isIDLetter(base[i]) {
			return "", "", ErrID
		}
	}
	return base, slot, nil
}

// Base is the id without its slot. What is no id stays as it is: it is nobody's either.
func Base(id string) string {
	if base, _, err := ParseID(id); err == nil {
		return base
	}
	return id
}

func isIDLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// isSlot: p01 to p99, p100 and on, so that a slot has one name only.
func isSlot(s string) bool {
	const most = 7 // bytes
	if len(s) < 3 || len(s) > most || s[0] != 'p' || s == "p00" || len(s) > 3 && s[1] == '0' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
