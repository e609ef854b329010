package globalstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What survives the host is kept one node at a time: leaves, dicts that are empty, and dicts with
// an end. Its id is its path; the empty one is that of the number of the last update.

// described is a node as [Store.Load] takes it.
type described struct {
	saved
	Serial uint64    `json:"serial"` // its place among its sisters
	At     time.Time `json:"at"`     // when it had so much time left
}

func (p Path) id() string {
	var out []byte
	for _, key := range p {
		out = append(binary.LittleEndian.AppendUint16(out, uint16(len(key))), key...)
	}
	return string(out)
}

func pathOf(id string) (p Path, ok bool) {
	for b := []byte(id); len(b) > 0; {
		if len(b) < 2 {
			return nil, false
		}
		n := 2 + int(binary.LittleEndian.Uint16(b))
		if n > len(b) {
			return nil, false
		}
		p, b = append(p, string(b[2:n])), b[n:]
	}
	return p, true
}

// touchedLocked tells who keeps the store that a node and all below has changed, or is gone.
func (s *Store) touchedLocked(n *node, p Path) {
	if s.o.Touched == nil || n == nil {
		return
	}
	s.o.Touched(p.id())
	for key, c := range n.below {
		s.touchedLocked(c, append(slices.Clip(p), key))
	}
}

// Describe gives what is kept under an id; false: nothing is.
func (s *Store) Describe(id string) (data []byte, ok bool) {
	p, ok := pathOf(id)
	if !ok {
		return nil, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := described{At: time.Now().UTC()}
	if len(p) == 0 {
		v.Number = s.number
	} else {
		n := s.findLocked(p)
		if n == nil || n.isDict() && len(n.below) > 0 && n.end == nil {
			return nil, false
		}
		v.Path, v.Value, v.Serial = p, n.leaf, n.serial
		if n.end != nil {
			v.TTL = max(1, (n.end.at - s.o.Clock.Now()).Milliseconds())
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // a value is kept byte for byte
	if err := e.Encode(&v); err != nil {
		s.o.Log.Error("a value of the global store cannot be written", "path", p, "error", err)
		return nil, false
	}
	return text.Bytes(), true
}

// Load takes back what Describe gave, before anybody has joined or written, and tells how many
// leaves that was. What cannot be read is left out.
func (s *Store) Load(all [][]byte) (leaves int, err error) {
	list := make([]described, 0, len(all))
	for _, data := range all {
		var v described
		if e := json.Unmarshal(data, &v); e != nil {
			err = errors.Join(err, fmt.Errorf("the global store: %w", e))
			continue
		}
		if v.TTL > 0 {
			v.TTL = max(1, v.TTL-max(0, time.Since(v.At).Milliseconds()))
		}
		list = append(list, v)
	}
	// Dicts first, so that what is below them finds them.
	slices.SortFunc(list, func(a, b described) int {
		if d := len(a.Path) - len(b.Path); d != 0 {
			return d
		}
		if a.Serial < b.Serial {
			return -1
		}
		return 1
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		if e := s.load(&list[i].saved); e != nil {
			err = errors.Join(err, fmt.Errorf("the global store: %q: %w", list[i].Path, e))
		}
	}
	s.armLocked()
	return s.leaves, err
}
