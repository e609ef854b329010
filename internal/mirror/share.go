package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// share is a path of a store of which the client of a page is told: a record of the page's own
// store.
type share struct {
	text []byte // as its worker wrote it
	ref  Ref    // whose store; empty: the page's own
	path []string
	key  string // of the path
	over over
	more bool // the client may write there
}

// over says by which way a client is told.
type over uint8

const (
	overSession over = iota
	overRequests
)

// sharing is the text of a share; protocol/store.md, section 7.
type sharing struct {
	Path  []string `json:"path"`
	Kind  Kind     `json:"kind"`
	ID    string   `json:"id"`
	Write bool     `json:"write"`
	Over  string   `json:"over"`
	Off   bool     `json:"off"` // it is no longer shared
}

var errShare = errors.New("it shares nothing that there can be")

// share takes a record SHARE.
func (s *store) share(text []byte, done *undo) error {
	var said sharing
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("%w: %w", errShare, err)
	}
	if len(said.Path) == 0 || len(said.Path) > mostKeys || (said.ID == "") != (said.Kind == 0) || said.Kind > User || said.Kind == Page {
		return errShare
	}
	sh := &share{text: copied(text), path: said.Path, key: keyOf(said.Path), more: said.Write}
	if said.ID != "" {
		sh.ref = Ref{said.Kind, said.ID}
	}
	switch said.Over {
	case "":
	case "requests":
		sh.over = overRequests
	default:
		return errShare
	}
	at := slices.IndexFunc(s.shares, func(o *share) bool { return o.ref == sh.ref && o.key == sh.key })
	done.shares(s)
	shares := slices.Clone(s.shares)
	if at >= 0 {
		s.bytes -= itemsCost([][]byte{shares[at].text})
	}
	switch {
	case said.Off && at < 0:
		return errShare
	case said.Off:
		s.shares = slices.Delete(shares, at, at+1)
		return nil
	case at >= 0:
		shares[at] = sh
	default:
		shares = append(shares, sh)
	}
	s.shares = shares
	s.bytes += itemsCost([][]byte{text})
	return nil
}

// sameShares tells by the memory: a record that changes shares makes a new list.
func sameShares(a, b []*share) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// watching is who is told of what. Guarded by the mirror's lock.
type watching struct {
	of    map[Ref][]watcher   // stores that are shared, without paths below each other
	pages map[string][]Ref    // of which stores a page is told
	lists map[string]*waiting // changes that wait for requests of pages
	queue []Told              // for sessions

	number uint64        // of the last that was ever put into it
	queued atomic.Uint64 // that, also without the lock; 0: it is empty
}

// watcher is the client of a page that is told of a path of a store.
type watcher struct {
	page  string
	share *share
}

func (w *watching) begin() {
	w.of, w.pages, w.lists = map[Ref][]watcher{}, map[string][]Ref{}, map[string]*waiting{}
}

func (w *watching) any() bool { return len(w.of) > 0 }

// indexLocked learns what a page shares now; nil: it is gone.
func (m *Mirror) indexLocked(page string, s *store) {
	w := &m.watch
	for _, ref := range w.pages[page] {
		rest := slices.DeleteFunc(slices.Clone(w.of[ref]), func(o watcher) bool { return o.page == page })
		if w.of[ref] = rest; len(rest) == 0 {
			delete(w.of, ref)
		}
	}
	delete(w.pages, page)
	if s == nil {
		delete(w.lists, page)
		return
	}
	for _, sh := range s.shares {
		if s.covers(sh) {
			continue
		}
		ref := sh.of(page)
		w.of[ref] = append(slices.Clip(w.of[ref]), watcher{page, sh})
		w.pages[page] = append(w.pages[page], ref)
	}
	switch l := w.lists[page]; {
	case l == nil:
	case s.tells(overRequests):
		l.all = slices.DeleteFunc(l.all, func(o unread) bool { return !slices.Contains(s.shares, o.share) })
	default:
		delete(w.lists, page)
	}
}

// covers reports whether the page's client is told of a share's path with one above it, so that
// changes there would come twice.
func (s *store) covers(sh *share) bool {
	return slices.ContainsFunc(s.shares, func(o *share) bool {
		return o.ref == sh.ref && o.over == sh.over && len(o.key) < len(sh.key) && strings.HasPrefix(sh.key, o.key)
	})
}

// of names the store that is shared.
func (sh *share) of(page string) Ref {
	if sh.ref.ID == "" {
		return Ref{Page, page}
	}
	return sh.ref
}

// tells reports whether its page's client is told of anything in that way.
func (s *store) tells(how over) bool {
	return slices.ContainsFunc(s.shares, func(sh *share) bool { return sh.over == how })
}

// rootLocked is the content of the store of a share, as far as the page may hear of it: it is
// the page's own, or of whom the page is; nil: there is none, or none any more.
func (m *Mirror) rootLocked(page string, sh *share) *node {
	own, s := m.stores[Ref{Page, page}], m.stores[sh.of(page)]
	if own == nil || s == nil || s.user != own.user {
		return nil
	}
	return s.root
}

// restoredLocked is told of a store that is there again: what waited for requests of its page is
// not known any more, so that all that it shares waits.
func (m *Mirror) restoredLocked(ref Ref, s *store) {
	if ref.Kind != Page || len(s.shares) == 0 {
		return
	}
	m.indexLocked(ref.ID, s)
	for _, sh := range s.shares {
		if sh.over == overRequests {
			m.listLocked(ref.ID).add(sh, sh.path, note{})
		}
	}
}

// endedLocked is told of a store that has ended: what of it was shared is gone.
func (m *Mirror) endedLocked(ref Ref) {
	switch {
	case !m.watch.any():
	case ref.Kind == Page:
		m.indexLocked(ref.ID, nil)
	case len(m.watch.of[ref]) > 0:
		t := touches{ref: ref}
		t.put(nil, note{}, nil)
		m.tellLockedOf([]touches{t}, nil)
	}
}
