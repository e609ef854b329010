// Package item is what the index of users, connections and pages tells of one of them, and
// how they are picked: the words that those who keep items have in common.
// Before it: who asks for items (registry, admin). After it: nothing.
// Not here: the items themselves, which identity (users, connections) and pages keep.
package item

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unique"
)

// Kind says what an item is.
type Kind uint8

// The kinds of items; protocol/store.md has the same numbers.
const (
	Page       Kind = 1
	Connection Kind = 2
	User       Kind = 3
)

var names = [...]string{Page: "page", Connection: "connection", User: "user"}

func (k Kind) String() string {
	if k >= Page && k <= User {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// UnmarshalText reads a name.
func (k *Kind) UnmarshalText(text []byte) error {
	for i := Page; i <= User; i++ {
		if names[i] == string(text) {
			*k = i
			return nil
		}
	}
	return fmt.Errorf("there are items of the kinds page, connection and user, not %.40q", text)
}

// MarshalText writes the name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Why is the reason of an item's end.
type Why string

// The reasons.
const (
	Expired   Why = "expired"   // nobody used it for its time of life
	Unclaimed Why = "unclaimed" // the page's client never came
	Closed    Why = "closed"    // its tab was closed, and said so
	Dropped   Why = "dropped"   // the application has ended it
	Full      Why = "full"      // there were as many as there may be
	Memory    Why = "memory"    // it made room in memory
	Identity  Why = "identity"  // its user has logged out, or another one came
	Refused   Why = "refused"   // its class did not want it
	Failed    Why = "failed"    // its client had to begin anew
	Above     Why = "above"     // what it belonged to has ended
)

// Ended is told of an item that has ended.
type Ended struct {
	Kind       Kind
	ID         string
	User       string // whose it was; empty: a guest's
	Connection string // of a page
	Why        Why
}

// Meta is what an item says of itself beside whose it is.
type Meta struct {
	Address netip.Addr
	Agent   string
	Fields  json.RawMessage // the application's own: a JSON object, or nil
}

// Bounds of what an application, or a browser, has the host keep with an item.
const (
	MostFields = 16 << 10
	mostAgent  = 512
)

// ErrFields is told of fields that cannot be kept.
var ErrFields = fmt.Errorf("the fields of an item are a JSON object of at most %d KiB", MostFields>>10)

// NewAgent is the memory of a browser's name, which thousands have in common.
func NewAgent(text []byte) string {
	return unique.Make(string(text[:min(len(text), mostAgent)])).Value()
}

// Merge puts fields over those that there are; null takes one away.
func (m *Meta) Merge(patch map[string]json.RawMessage) error {
	if len(patch) == 0 {
		return nil
	}
	all := map[string]json.RawMessage{}
	if m.Fields != nil {
		if err := json.Unmarshal(m.Fields, &all); err != nil {
			return errors.Join(ErrFields, err)
		}
	}
	for name, value := range patch {
		if value == nil || string(bytes.TrimSpace(value)) == "null" {
			delete(all, name)
			continue
		}
		all[name] = value
	}
	if len(all) == 0 {
		m.Fields = nil
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil || len(text) > MostFields {
		return ErrFields
	}
	m.Fields = text
	return nil
}

// Bytes is what it costs in the account.
func (m *Meta) Bytes() int { return len(m.Fields) }

// Item is one of them, as applications and operators see it.
type Item struct {
	Kind       Kind      `json:"kind"`
	ID         string    `json:"id"`
	User       string    `json:"user,omitempty"`       // empty: a guest's
	Connection string    `json:"connection,omitempty"` // of a page
	Flag       string    `json:"flag,omitempty"`       // of a user's release
	Started    time.Time `json:"started"`
	Seen       time.Time `json:"last_seen"`
	Address    string    `json:"address,omitempty"`
	Agent      string    `json:"user_agent,omitempty"`

	// Of pages.
	App       string `json:"app,omitempty"`
	Class     string `json:"class,omitempty"`
	Path      string `json:"path,omitempty"`
	Connected bool   `json:"connected,omitempty"` // its client is there now
	Claimed   bool   `json:"claimed,omitempty"`   // its client has come once

	// Of connections and users: what belongs to them.
	Pages       int `json:"pages,omitempty"`
	Connections int `json:"connections,omitempty"`

	Bytes  int64           `json:"bytes,omitempty"` // of its store, in the account
	Fields json.RawMessage `json:"fields,omitempty"`
}

// Put takes over what it says of itself.
func (i *Item) Put(m Meta) {
	if m.Address.IsValid() {
		i.Address = m.Address.String()
	}
	i.Agent, i.Fields = m.Agent, m.Fields
}
