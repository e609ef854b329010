package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Told is what the client of a page is to be told over its session, in the order of commits.
type Told struct {
	Page string
	All  bool   // it takes the place of all that the client knew
	Data []byte // a JSON list
}

// Queued is the number of the last thing that is to be told; 0: there is nothing. Numbers only
// grow: who has waited for one has waited for all before it, and for nothing else.
func (m *Mirror) Queued() uint64 { return m.watch.queued.Load() }

// Tell gives what is to be told up to a number, each of it once.
func (m *Mirror) Tell(upTo uint64) []Told {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &m.watch
	before := w.number - uint64(len(w.queue)) // the number of the last that was given
	if upTo <= before {
		return nil
	}
	n := min(upTo, w.number) - before
	first := w.queue[:n]
	w.queue = slices.Clone(w.queue[n:])
	if len(w.queue) == 0 {
		w.queued.Store(0)
	}
	return first
}

// Anew has pages that are to be told anything be told all instead: it could not be done in time.
// That is news: nobody has waited for it yet.
func (m *Mirror) Anew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := m.watch.queue
	m.watch.queue = nil
	m.watch.queued.Store(0)
	done := map[string]bool{}
	for _, t := range queue {
		if s := m.stores[Ref{Page, t.Page}]; s != nil && !done[t.Page] {
			done[t.Page] = true
			m.tellAllLocked(t.Page, s)
		}
	}
}

func (w *watching) tell(t Told) {
	w.queue = append(w.queue, t)
	w.number++
	w.queued.Store(w.number)
}

// Shared queues for the client of a page all that is shared with it over its session.
func (m *Mirror) Shared(page string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.stores[Ref{Page, page}]; s != nil && s.tells(overSession) {
		m.tellAllLocked(page, s)
	}
}

func (m *Mirror) tellAllLocked(page string, s *store) {
	// Of paths below each other the highest comes last: there is no more to it than what it says.
	shares := slices.Clone(s.shares)
	slices.SortStableFunc(shares, func(a, b *share) int { return len(b.path) - len(a.path) })
	var list [][]byte
	for _, sh := range shares {
		if sh.over == overSession {
			list = append(list, change(sh, sh.path, m.rootLocked(page, sh).at(sh.path), note{}, sh.more))
		}
	}
	m.watch.tell(Told{page, true, joined(list)})
}

// tellPagesLocked tells of a commit that was applied.
func (m *Mirror) tellPagesLocked(from *Source) {
	if len(from.touched)+len(from.shared) == 0 {
		return // as a rule
	}
	for _, page := range from.shared {
		s := m.stores[Ref{Page, page}]
		told := false // until now
		var known []watcher
		for _, ref := range m.watch.pages[page] {
			for _, w := range m.watch.of[ref] {
				if w.page == page {
					known = append(known, w)
					told = told || w.share.over == overSession
				}
			}
		}
		m.indexLocked(page, s)
		for _, sh := range s.shares {
			if sh.over == overRequests && !s.covers(sh) && !slices.Contains(known, watcher{page, sh}) {
				m.listLocked(page).add(sh, sh.path, note{})
			}
		}
		if told || s.tells(overSession) {
			m.tellAllLocked(page, s)
		}
	}
	m.tellLockedOf(from.touched, from.shared)
}

// tellLockedOf tells of what was written; those who were told all of it have it.
func (m *Mirror) tellLockedOf(all []touches, whole []string) {
	var pages []string
	said := map[string][][]byte{}
	for i := range all {
		t := &all[i]
		t.settle()
		for _, w := range m.watch.of[t.ref] {
			if w.share.over == overSession && slices.Contains(whole, w.page) {
				continue
			}
			list := m.tellOneLocked(t, w)
			if len(list) == 0 {
				continue
			}
			if said[w.page] == nil {
				pages = append(pages, w.page)
			}
			said[w.page] = append(said[w.page], list...)
		}
	}
	for _, page := range pages {
		m.watch.tell(Told{page, false, joined(said[page])})
	}
}

// tellOneLocked gives what the client of a page is to be told of one store over its session; what
// it hears by requests waits.
func (m *Mirror) tellOneLocked(t *touches, w watcher) (list [][]byte) {
	sh, root := w.share, m.rootLocked(w.page, w.share)
	for i := range t.all {
		one := &t.all[i]
		path, key, splice := one.path, one.key, one.splice
		switch {
		case one.above:
			continue
		case strings.HasPrefix(key, sh.key):
		case strings.HasPrefix(sh.key, key):
			path, key, splice = sh.path, sh.key, nil
		default:
			continue
		}
		switch {
		case sh.over == overRequests: // also to who wrote it: the answer may never have come
			m.listLocked(w.page).add(sh, path, one.note)
		case splice != nil && root != nil:
			list = append(list, spliced(sh, path, splice, one.note))
		default:
			said := change(sh, path, t.value(root, path, key), one.note, false)
			if one.note.By == w.page && one.note.As != 0 && key == one.key {
				said = fmt.Appendf(said[:len(said)-1], `,"own":%d}`, one.note.As)
			}
			list = append(list, said)
		}
	}
	return list
}

// stores that are not the page's own have names for its client.
var sharedNames = map[Kind]string{Connection: "connection", User: "user"}

// head is how each change begins.
func head(sh *share, path []string) string {
	b := []byte(`{"path":[`)
	for i, key := range path {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, key)
	}
	b = append(b, ']')
	if name := sharedNames[sh.ref.Kind]; name != "" {
		b = append(b, `,"store":"`+name+`"`...)
	}
	return string(b)
}

// change says what is at a path now; nil: nothing.
func change(sh *share, path []string, value []byte, said note, may bool) []byte {
	b := append([]byte(head(sh, path)), `,"delete":true`...)
	if value != nil {
		b = append(b[:len(b)-len(`"delete":true`)], `"value":`...)
		b = append(b, value...)
	}
	if may {
		b = append(b, `,"write":true`...)
	}
	return append(said.append(b), '}')
}

func spliced(sh *share, path []string, s *splice, said note) []byte {
	b := []byte(head(sh, path))
	if s.at >= 0 {
		b = fmt.Appendf(b, `,"at":%d,"removed":%d`, s.at, s.removed)
	}
	b = append(b, `,"items":[`...)
	for i, item := range s.items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, item...)
	}
	return append(said.append(append(b, ']')), '}')
}

func (n *note) append(b []byte) []byte {
	if len(n.Reason) > 0 {
		b = append(append(b, `,"reason":`...), n.Reason...)
	}
	if len(n.Attributes) > 0 {
		b = append(append(b, `,"attributes":`...), n.Attributes...)
	}
	return b
}

func joined(list [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(list, []byte{','})...), ']')
}

// waiting is what a page's client has not been told that asks for it: paths, the one that was
// written last behind the others. Their values are those of when it asks.
type waiting struct {
	last   uint64 // number of the change that was made last
	handed uint64 // and of the last that was handed out
	all    []unread
}

// unread is one of them.
type unread struct {
	number uint64
	share  *share
	path   []string
	key    string
	note   note
}

// mostWaiting is how many changes wait for one page; more are told as the whole of what is
// shared.
const mostWaiting = 256

// mostNoted is how many bytes reason and attributes of a change may have that waits.
const mostNoted = 4 << 10

// listLocked is what waits for a page. Numbers begin with the time: they only grow, though the
// server was started again in between.
func (m *Mirror) listLocked(page string) *waiting {
	w := m.watch.lists[page]
	if w == nil {
		from := now()
		w = &waiting{last: from, handed: from}
		m.watch.lists[page] = w
	}
	return w
}

func now() uint64 { return uint64(time.Now().UnixMilli()) }

func (w *waiting) add(sh *share, path []string, said note) {
	if len(said.Reason)+len(said.Attributes) > mostNoted {
		said = note{}
	}
	key := keyOf(path)
	ref := sh.ref
	w.all = slices.DeleteFunc(w.all, func(o unread) bool { return o.key == key && o.share.ref == ref })
	if len(w.all) >= mostWaiting {
		w.collapse()
	}
	w.last++
	w.all = append(w.all, unread{w.last, sh, path, key, said})
}

// collapse makes of what waits one change for each path that is shared.
func (w *waiting) collapse() {
	before := w.all
	w.all = nil
	for _, one := range before {
		if !slices.ContainsFunc(w.all, func(o unread) bool { return o.share == one.share }) {
			w.last++
			w.all = append(w.all, unread{w.last, one.share, one.share.path, one.share.key, note{}})
		}
	}
}

// ErrNotHanded is told who acknowledges what nobody gave to it.
var ErrNotHanded = errors.New("no change of this number was ever handed out")

// Acknowledge forgets what waits for requests of a page up to a number: its client has it.
func (m *Mirror) Acknowledge(page string, number uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watch.lists[page]
	handed := now() // before a start, or before nothing was shared any more
	if w != nil {
		handed = w.handed
	}
	switch {
	case number > handed:
		return fmt.Errorf("%w: %d", ErrNotHanded, number)
	case w == nil:
		return nil
	}
	w.all = slices.DeleteFunc(w.all, func(o unread) bool { return o.number <= number })
	return nil
}

// HandOut gives what waits for requests of a page, as a JSON list, and the number of the last of
// it. It waits until it is acknowledged.
func (m *Mirror) HandOut(page string) (list []byte, number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watch.lists[page]
	if w == nil {
		return []byte("[]"), now()
	}
	var out [][]byte
	for i := range w.all {
		one := &w.all[i]
		if slices.ContainsFunc(w.all, func(o unread) bool {
			return o.share.ref == one.share.ref && len(o.key) < len(one.key) && strings.HasPrefix(one.key, o.key)
		}) {
			continue // it is in that one's value
		}
		out = append(out, change(one.share, one.path, m.rootLocked(page, one.share).at(one.path), one.note, false))
	}
	w.handed = w.last
	return joined(out), w.handed
}

// waitingLocked is how many changes wait for requests, of all pages.
func (m *Mirror) waitingLocked() (n int) {
	for _, w := range m.watch.lists {
		n += len(w.all)
	}
	return n
}
