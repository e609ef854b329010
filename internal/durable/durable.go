// Package durable keeps a log of what must survive the host itself: items by kind and id, each
// with a version, in records that are checked one by one (statefile.Record).
// Before it: whoever changes an item and must not tell anybody before it is kept (the root
// package wires mirror, identity, pages and the global store). After it: segments and an index
// in a folder of server.state_dir.
// Not here: what an item means, HTTP, the files of a graceful stop (statefile).
package durable

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// Key names an item.
type Key struct {
	Kind byte
	ID   string
}

// Kind is how the items of one kind get into the log. One of its functions is set.
type Kind struct {
	// Describe gives the whole item as it is now, for those that are touched; false: there is
	// none. It is called without a lock of the log's, and must not wait for the log.
	Describe func(id string) (data []byte, ok bool)
	// Rewrite puts the whole item, for those whose changes are added one by one: by [Log.Append]
	// and under the lock under which they are added, so that none comes between.
	Rewrite func(id string)
}

// Options of a log.
type Options struct {
	Dir      string
	Always   bool          // fsync before anything is told; else every Interval
	Interval time.Duration // 1 s
	Segment  int64         // bytes of log before it is written anew; 64 MiB
	Kinds    map[byte]Kind
	Log      *slog.Logger
}

// ErrUnavailable says that the log cannot be written now: what rests on it must not be told.
var ErrUnavailable = errors.New("what was changed cannot be kept now (server.state_dir)")

// What a record does.
const (
	opPut   = 1 // the item is this
	opAdd   = 2 // and this was done to it
	opDrop  = 3 // it is no more
	opEnd   = 4 // all before it, back to the last such record, was written at once
	opBegin = 5 // of a segment: its version is that of the log
	opClose = 6 // all before it was brought to the disk
)

// Log is the log of a host. Its methods may be called from any goroutine.
type Log struct {
	o Options

	appended atomic.Uint64 // changes so far
	kept     atomic.Uint64 // and how many of them are kept
	broken   atomic.Bool   // down is set

	turn sync.Mutex // of who writes; held across I/O, for that is its purpose. Before mu, and before locks that Describe takes

	// Of who has the turn.
	file    *os.File
	segment uint64 // number of file
	index   *index
	spare   []byte
	failed  time.Time // the last attempt to begin anew

	mu      sync.Mutex // guards the rest: memory only. Taken under locks of those who change items
	items   map[Key]*entry
	above   uint32 // no item that was forgotten had a higher version
	buf     []byte
	number  uint64
	dirty   []Key
	touched []*entry // whose version the index does not have yet
	down    error    // nil: it works
	retired []*os.File
	begun   bool  // another segment, since the last fsync
	written int64 // bytes since the log was written anew
	base    int64 // bytes that this took
	count   Status

	compacting atomic.Bool
	quit       chan struct{}
	done       sync.WaitGroup
}

// entry is an item.
type entry struct {
	key     Key
	version uint32
	slot    int32 // in the index; -1: none
	dirty   bool  // in Log.dirty
	pending bool  // in Log.touched
	dead    bool
	fresh   bool // nothing was written of it
}

// Change is one of an item.
type Change struct {
	Key
	Op   Op
	Data []byte
}

// Op is what a change does.
type Op byte

// The changes there are.
const (
	Put  Op = opPut  // the item is Data
	Add  Op = opAdd  // Data is added to it
	Drop Op = opDrop // it has ended
)

// Kinds says how items get into the log, before there are any of them.
func (l *Log) Kinds(kinds map[byte]Kind) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.o.Kinds = kinds
}

// Append takes changes, all of which are kept or none. It only remembers them: [Log.Wait]
// returns when they are kept.
func (l *Log) Append(changes ...Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range changes {
		l.appendLocked(&changes[i])
	}
	l.appended.Add(1)
}

func (l *Log) appendLocked(c *Change) {
	e := l.entryLocked(c.Key)
	if c.Op == Drop && (e.dead || e.fresh) {
		if e.fresh && !e.dirty {
			delete(l.items, c.Key)
		}
		return
	}
	e.version++
	e.dead, e.fresh = c.Op == Drop, false
	if l.down != nil {
		return // it is written whole when there is room again
	}
	l.recordLocked(&statefile.Record{Op: byte(c.Op), Kind: c.Kind, ID: c.ID, Version: e.version, Data: c.Data})
	if !e.pending {
		e.pending = true
		l.touched = append(l.touched, e)
	}
}

func (l *Log) entryLocked(k Key) *entry {
	e := l.items[k]
	if e == nil {
		e = &entry{key: k, version: l.above, slot: -1, fresh: true}
		l.items[k] = e
	}
	return e
}

// forgetLocked forgets an item that has ended. The index may still know it: should it be there
// again, its versions are higher.
func (l *Log) forgetLocked(e *entry) {
	l.above = max(l.above, e.version)
	delete(l.items, e.key)
}

func (l *Log) recordLocked(r *statefile.Record) {
	l.number++
	r.Number = l.number
	l.buf = statefile.AppendRecord(l.buf, r)
}

// Touch says that an item has changed; what it is then is asked when it is written.
func (l *Log) Touch(kind byte, id string) {
	l.mu.Lock()
	l.touchLocked(Key{kind, id})
	l.mu.Unlock()
}

func (l *Log) touchLocked(k Key) {
	l.appended.Add(1)
	e := l.entryLocked(k)
	e.dead = false // it may be there again; nobody has asked yet
	if e.dirty || l.down != nil {
		return
	}
	e.dirty = true
	l.dirty = append(l.dirty, k)
}

// Position is that of the last change so far.
func (l *Log) Position() uint64 { return l.appended.Load() }

// Keeps reports whether all changes up to a position are kept.
func (l *Log) Keeps(position uint64) bool { return l.kept.Load() >= position }

// Wait returns when all changes so far are kept, or [ErrUnavailable]. Who calls it writes, for
// all who wait: so many changes cost one write, and one fsync. It must not be called under a
// lock that Describe or Rewrite takes.
func (l *Log) Wait() error {
	position := l.appended.Load()
	if l.kept.Load() >= position {
		return nil
	}
	if l.broken.Load() {
		return l.why()
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.kept.Load() >= position {
		return nil
	}
	return l.flush()
}

// Sync returns when all changes so far are on the disk.
func (l *Log) Sync() error {
	if err := l.Wait(); err != nil {
		return err
	}
	l.sync()
	l.turn.Lock()
	file, index := l.file, l.index
	l.turn.Unlock()
	// Not sync alone: another one may be at it, and not through.
	if err := l.syncAll(file, index); err != nil && !errors.Is(err, os.ErrClosed) {
		l.fail(fmt.Errorf("fsync: %w", err))
	}
	if l.broken.Load() {
		return l.why()
	}
	return nil
}

func (l *Log) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, l.down)
}

// Status is how the log is.
type Status struct {
	Items     int    `json:"items"`
	Bytes     int64  `json:"bytes"`   // written since it was written anew, that included
	Changes   uint64 `json:"changes"` // so far
	Kept      uint64 `json:"kept"`    // of these
	Writes    uint64 `json:"writes"`
	Syncs     uint64 `json:"syncs"`
	Synced    uint64 `json:"-"`      // writes that the last fsync has seen
	Anew      uint64 `json:"anew"`   // times that it was written anew
	Failed    uint64 `json:"failed"` // times that it could not be written
	Error     string `json:"error,omitempty"`
	Recovered int    `json:"recovered"` // items at the start
	Damaged   int    `json:"damaged"`   // items that could not be had
}

// Status tells how the log is.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.count
	st.Items, st.Bytes = len(l.items), l.written
	st.Changes, st.Kept = l.appended.Load(), l.kept.Load()
	if l.down != nil {
		st.Error = l.down.Error()
	}
	return st
}

// Close keeps what is not kept yet, and ends the log's goroutines.
func (l *Log) Close() error {
	close(l.quit)
	l.done.Wait()
	err := l.Wait()
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	retired := l.retired
	l.retired = nil
	l.mu.Unlock()
	if err == nil && l.file != nil && !l.broken.Load() {
		_, err = l.file.Write(statefile.AppendRecord(nil, &statefile.Record{Op: opClose}))
	}
	for _, f := range append(retired, l.file) {
		if f != nil {
			err = errors.Join(err, f.Sync(), f.Close())
		}
	}
	l.file = nil
	return errors.Join(err, l.index.close())
}
