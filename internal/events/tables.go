package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/bus"
)

// tableTopic is before the name of a table, in topics of events about it.
const tableTopic = "dbevent."

// mostTables bounds the tables of which events are collected at one time.
const mostTables = 4096

// Action is what became of a row.
type Action string

// The actions.
const (
	Insert Action = "insert"
	Update Action = "update"
	Delete Action = "delete"
)

// TableChange is what a transaction did to rows of one table.
type TableChange struct {
	Table  string            `json:"table"`
	Action Action            `json:"action"`
	Keys   []json.RawMessage `json:"keys"` // nil: nobody says which, so any row may be another
	Rows   []json.RawMessage `json:"rows"` // of each key what the subscribers are to know; or none
	Reason string            `json:"reason"`
	Page   string            `json:"page"` // by which it was done
}

// Errors of changes of tables.
var (
	ErrBadChange     = errors.New("this is no change of a table")
	ErrTooManyTables = fmt.Errorf("events of %d tables are under way", mostTables)
)

// TableLimits bound the events about one table.
type TableLimits struct {
	Interval time.Duration // at least between two events
	Changes  int           // at most in one event
}

// TableStatus counts what became of changes of tables.
type TableStatus struct {
	Tables    int    `json:"tables"`    // that have changed within the interval
	Changes   uint64 `json:"changes"`   // rows
	Published uint64 `json:"published"` // events
	Merged    uint64 `json:"merged"`    // rows whose change went with a later one of the same row
	// Events that say less than they were told, because it was too much for one.
	RowsLeft uint64 `json:"rows_left"` // their keys alone
	Collapse uint64 `json:"collapsed"` // only that the table has changed
}

// Tables makes events of changes of database tables: for each table one at once, and of what
// follows within the interval one behind it.
type Tables struct {
	events *Events
	limits func() TableLimits
	wait   sync.WaitGroup // who publishes
	count  struct{ changes, published, merged, rows, collapsed atomic.Uint64 }

	mu     sync.Mutex // guards the rest; nothing is published under it
	tables map[string]*table
	hasty  bool // the interval is over for all of them: the host stops
	closed bool
}

// table is one that has changed within the interval.
type table struct {
	name  string
	timer *time.Timer // nil: it is being published
	news  *news
}

// NewTables makes them for the events of a host. [Tables.Close] must be called before theirs.
func (e *Events) NewTables(limits func() TableLimits) *Tables {
	return &Tables{events: e, limits: limits, tables: map[string]*table{}}
}

// Changed takes what a transaction did, all or none of it. It waits for nobody.
func (t *Tables) Changed(changes []TableChange) error {
	for i := range changes {
		if err := changes[i].check(); err != nil {
			return err
		}
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return bus.ErrClosed
	}
	if len(t.tables)+len(changes) > mostTables && t.newLocked(changes) > mostTables-len(t.tables) {
		t.mu.Unlock()
		return ErrTooManyTables
	}
	limits := t.limits()
	var first []*table
	for i := range changes {
		c := &changes[i]
		one := t.tables[c.Table]
		if one == nil {
			one = &table{name: c.Table}
			t.tables[c.Table] = one
			first = append(first, one)
		}
		if one.news == nil {
			one.news = &news{most: limits.Changes}
		}
		t.count.changes.Add(uint64(len(c.Keys)))
		t.count.merged.Add(uint64(one.news.add(c)))
	}
	t.wait.Add(1)
	t.mu.Unlock()
	defer t.wait.Done()
	for _, one := range first {
		t.publish(one)
	}
	return nil
}

// newLocked counts the tables of changes that have not changed within the interval.
func (t *Tables) newLocked(changes []TableChange) int {
	names := map[string]bool{}
	for i := range changes {
		if name := changes[i].Table; t.tables[name] == nil {
			names[name] = true
		}
	}
	return len(names)
}

func (c *TableChange) check() error {
	if err := bus.CheckTopic(tableTopic + c.Table); err != nil {
		return fmt.Errorf("%w: the table %.80q: %w", ErrBadChange, c.Table, err)
	}
	switch c.Action {
	case Insert, Update, Delete:
	case "":
		c.Action = Update
	default:
		return fmt.Errorf("%w: the action is %.40q; it is insert, update or delete", ErrBadChange, c.Action)
	}
	if c.Rows != nil && len(c.Rows) != len(c.Keys) {
		return fmt.Errorf("%w: it has %d keys and %d rows; each key has its row, or none has", ErrBadChange, len(c.Keys), len(c.Rows))
	}
	return nil
}

// publish makes one event of what is collected, and has the table wait until the next one may
// be. Only one goroutine at a time publishes of a table: its events keep their order.
func (t *Tables) publish(one *table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		what := one.news
		one.news, one.timer = nil, nil
		if what != nil {
			t.mu.Unlock()
			t.tell(one.name, what)
			t.mu.Lock()
		}
		interval := t.limits().Interval
		if t.hasty || interval <= 0 {
			if one.news != nil && !t.closed {
				continue
			}
			what = nil
		}
		if what == nil || t.closed {
			delete(t.tables, one.name) // nothing came for an interval
			return
		}
		one.timer = time.AfterFunc(interval, func() { t.due(one) })
		return
	}
}

// due is the timer's.
func (t *Tables) due(one *table) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.wait.Add(1)
	t.mu.Unlock()
	defer t.wait.Done()
	t.publish(one)
}

// tell publishes an event, of as much as fits into one.
func (t *Tables) tell(name string, what *news) {
	most := t.events.opts.Pages.Hub().Options().Message - envelope
	text, rows, all := what.text(name, most)
	if !rows {
		t.count.rows.Add(1)
	}
	if all && !what.all {
		t.count.collapsed.Add(1)
	}
	t.count.published.Add(1)
	if _, err := t.events.Publish("tables", tableTopic+name, text); err != nil && !errors.Is(err, bus.ErrClosed) {
		t.events.opts.Log.Error("an event about a table was not published", "table", name, "error", err.Error())
	}
}

// Flush publishes what is collected, and from now on all at once: the host stops.
func (t *Tables) Flush() {
	for _, one := range t.stopTimers(false) {
		t.publish(one)
	}
}

// Close loses what is collected; call Flush before. It returns when nothing is published any
// more.
func (t *Tables) Close() {
	t.stopTimers(true)
	t.wait.Wait()
}

// stopTimers gives the tables whose timers will not go off any more.
func (t *Tables) stopTimers(closed bool) (stopped []*table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.hasty = t.closed || closed, true
	for _, one := range t.tables {
		if one.timer != nil && one.timer.Stop() {
			stopped = append(stopped, one)
		}
	}
	return stopped
}

// Status tells how they are.
func (t *Tables) Status() TableStatus {
	t.mu.Lock()
	n := len(t.tables)
	t.mu.Unlock()
	c := &t.count
	return TableStatus{
		Tables: n, Changes: c.changes.Load(), Published: c.published.Load(), Merged: c.merged.Load(),
		RowsLeft: c.rows.Load(), Collapse: c.collapsed.Load(),
	}
}

// news are changes of one table on their way into one event.
type news struct {
	most    int
	all     bool      // too many, or nobody said which
	changes []*change // nil: it went with a later one
	at      map[string]int
	live    int
}

// change is what became of one row.
type change struct {
	first  Action          // in this event: it says whether there was such a row before
	Action Action          `json:"action"`
	Key    json.RawMessage `json:"key"`
	Row    json.RawMessage `json:"row,omitempty"`
	Reason string          `json:"reason,omitempty"`
	Page   string          `json:"page,omitempty"`
}

// add takes a transaction's change, and tells how many earlier ones it took in.
func (n *news) add(c *TableChange) (merged int) {
	if c.Keys == nil {
		n.all = true
	}
	if n.at == nil {
		n.at = map[string]int{}
	}
	for i, key := range c.Keys {
		if n.all {
			break
		}
		one := &change{first: c.Action, Action: c.Action, Key: key, Reason: c.Reason, Page: c.Page}
		if c.Rows != nil && string(c.Rows[i]) != "null" {
			one.Row = c.Rows[i]
		}
		name := strings.TrimSpace(string(key))
		if at, again := n.at[name]; again {
			one.follow(n.changes[at])
			n.changes[at] = nil
			n.live--
			merged++
		}
		n.at[name] = len(n.changes)
		n.changes = append(n.changes, one)
		if n.live++; n.most > 0 && n.live > n.most {
			n.all = true
		}
	}
	if n.all {
		n.changes, n.at = nil, nil
	} else if len(n.changes) > 2*n.live+64 {
		n.pack()
	}
	return merged
}

// pack forgets the places of changes that went with later ones.
func (n *news) pack() {
	packed := make([]*change, 0, n.live)
	for _, one := range n.changes {
		if one != nil {
			n.at[strings.TrimSpace(string(one.Key))] = len(packed)
			packed = append(packed, one)
		}
	}
	n.changes = packed
}

// follow takes in an earlier change of the same row: what both come to, for who knew the row
// before them.
func (c *change) follow(earlier *change) {
	c.first = earlier.first
	switch {
	case c.Action == Delete:
	case c.first == Insert:
		c.Action = Insert
	default:
		c.Action = Update
	}
}

// text is the data of the event: with the rows; where that is too much without them; where
// that is too much, that the table has changed.
func (n *news) text(table string, most int) (text json.RawMessage, rows, all bool) {
	event := struct {
		Table   string    `json:"table"`
		All     bool      `json:"all,omitempty"`
		Changes []*change `json:"changes"`
	}{Table: table, All: n.all, Changes: []*change{}}
	rows = true
	for _, one := range n.changes {
		if one != nil {
			event.Changes = append(event.Changes, one)
		}
	}
	for {
		b, err := json.Marshal(&event)
		switch {
		case err == nil && len(b) <= most:
			return b, rows, event.All
		case err == nil && rows && !event.All:
			rows = false
			for i, one := range event.Changes {
				bare := *one
				bare.Row = nil
				event.Changes[i] = &bare
			}
		case event.All:
			return json.RawMessage(`{"all":true}`), rows, true
		default: // too much; or what cannot be JSON, which nobody could read
			event.All, event.Changes = true, []*change{}
		}
	}
}
