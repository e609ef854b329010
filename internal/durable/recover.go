package durable

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// Item is one that the log has.
type Item struct {
	Key
	Base   []byte   // as it was put; nil: it was begun by what was added
	Deltas [][]byte // what was added since, in order
}

// Recovered is what a log has.
type Recovered struct {
	Items   map[Key]*Item
	Damaged []Key // of which the log is not whole: they are not among Items
	Skipped int64 // bytes that could not be read

	entries map[Key]*entry
	known   map[uint64]*slot
	last    uint64 // segment
	next    int32  // slot
	behind  bool   // the index is not to be used again
}

// Lost reports whether there was an item that the log should have and does not.
func (r *Recovered) Lost(k Key) bool {
	s := r.known[hashOf(k)]
	return s != nil && !s.dead && r.Items[k] == nil
}

// version is that of records and index.
const version = 1

// VersionError says that the log is one of another Guado.
type VersionError struct{ Found uint32 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the log has version %d, and this Guado reads version %d", e.Found, version)
}

// state is an item while the log is read.
type state struct {
	item    Item
	version uint32
	damaged bool
	dead    bool
}

// reading is the reading of a log.
type reading struct {
	dir   string
	log   *slog.Logger
	disk  disk
	items map[Key]*state
	known map[uint64]*slot
	lost  int64

	behind bool // the index may know more than ever was on the disk
}

// Exists reports whether there is a log in a folder.
func Exists(dir string) (bool, error) {
	all, err := segments(dir)
	return len(all) > 0, err
}

// Recover reads the log in a folder; nil: there is none. What was being written when the host
// ended is cut off.
func Recover(dir string, log *slog.Logger) (*Recovered, error) {
	return recoverFrom(dir, log, disk{os.ReadFile, os.Truncate})
}

// disk is where segments and the index are.
type disk struct {
	read func(path string) ([]byte, error)
	cut  func(path string, size int64) error
}

func recoverFrom(dir string, log *slog.Logger, from disk) (*Recovered, error) {
	all, err := segments(dir)
	if err != nil {
		return nil, fmt.Errorf("read the log of state: %w", err)
	}
	if len(all) == 0 {
		return nil, nil //nolint:nilnil // there is no log
	}
	slots, next, damaged, err := readIndex(from, filepath.Join(dir, indexName))
	if err != nil {
		return nil, fmt.Errorf("read the index of the log of state: %w", err)
	}
	if damaged > 0 {
		log.Warn("parts of the index of the log of state are damaged", "slots", damaged)
	}
	rd := &reading{dir: dir, log: log, disk: from, items: map[Key]*state{}, known: make(map[uint64]*slot, len(slots))}
	for i := range slots {
		if s := &slots[i]; rd.known[s.hash] == nil || rd.known[s.hash].version < s.version {
			rd.known[s.hash] = s // an item may have been there before, in another slot
		}
	}
	for i, n := range all {
		if err := rd.segment(n, i == len(all)-1); err != nil {
			return nil, err
		}
	}
	out := rd.result()
	out.last, out.next = all[len(all)-1], next
	return out, nil
}

// segment reads one, and cuts off what was not written to its end.
func (rd *reading) segment(n uint64, last bool) error {
	path := filepath.Join(rd.dir, segmentName(n)+suffixLog)
	data, err := rd.disk.read(path)
	if err != nil {
		return fmt.Errorf("read the log of state: %w", err)
	}
	scan := statefile.NewScanner(data)
	var group []found
	good := 0
	for {
		r, whole, ok := scan.Next()
		if !ok {
			break
		}
		if r.Op == opBegin && r.Version != version {
			return &VersionError{r.Version}
		}
		if r.Op == opBegin {
			rd.behind = whole && behind(r.Data)
			continue
		}
		if r.Op == opClose {
			rd.behind, good = false, scan.Offset()
			continue
		}
		if r.Op != opEnd {
			group = append(group, found{r, whole})
			continue
		}
		rd.apply(group)
		group, good = group[:0], scan.Offset()
	}
	rd.lost += scan.Skipped
	if rd.told(group) {
		rd.apply(group)
		return nil
	}
	if good < len(data) && last {
		rd.log.Info("what was being written when the server ended is cut off: nobody was told of it", "bytes", len(data)-good)
		if err := rd.disk.cut(path, int64(good)); err != nil {
			return fmt.Errorf("cut off the end of the log of state: %w", err)
		}
	}
	return nil
}

// found is a record; whole is false where its data is damaged.
type found struct {
	statefile.Record
	whole bool
}

// told reports whether the index knows that these records were written to their end, though
// the end cannot be read.
func (rd *reading) told(group []found) bool {
	if rd.behind {
		return false
	}
	for i := range group {
		r := &group[i]
		if s := rd.known[hashOf(Key{r.Kind, r.ID})]; s != nil && s.version >= r.Version {
			return true
		}
	}
	return false
}

func (rd *reading) apply(group []found) {
	for i := range group {
		rd.record(&group[i])
	}
}

func (rd *reading) record(r *found) {
	key := Key{r.Kind, r.ID}
	s := rd.items[key]
	if s == nil {
		s = &state{item: Item{Key: key}}
		rd.items[key] = s
	}
	if r.Version < s.version || r.Version == s.version && r.Op != opPut {
		return
	}
	missing := r.Version != s.version+1
	s.version = r.Version
	switch {
	case r.Op == opDrop: // its data is empty
		s.dead, s.damaged, s.item.Base, s.item.Deltas = true, false, nil, nil
	case !r.whole:
		s.damaged, s.dead = true, false
	case r.Op == opPut:
		s.dead, s.damaged, s.item.Base, s.item.Deltas = false, false, r.Data, nil
	case r.Op == opAdd:
		if s.dead {
			s.dead, s.item.Base, s.item.Deltas = false, nil, nil
		}
		s.damaged = s.damaged || missing
		s.item.Deltas = append(s.item.Deltas, r.Data)
	default:
		s.damaged = true
	}
}

// result holds what was read against the index.
func (rd *reading) result() *Recovered {
	if rd.behind {
		clear(rd.known)
	}
	out := &Recovered{behind: rd.behind, Items: map[Key]*Item{}, Skipped: rd.lost, entries: map[Key]*entry{}, known: rd.known}
	for key, s := range rd.items {
		e := &entry{key: key, version: s.version, slot: -1, dead: s.dead}
		if k := rd.known[hashOf(key)]; k != nil {
			e.slot = k.at
			if k.version > s.version {
				e.version, e.dead = k.version, k.dead
				s.damaged, s.dead = true, k.dead
			}
		}
		out.entries[key] = e
		switch {
		case s.dead:
		case s.damaged:
			out.Damaged = append(out.Damaged, key)
		default:
			out.Items[key] = &s.item
		}
	}
	return out
}

// Open begins to keep a log, which goes on with what was recovered (nil: nothing). Until
// [Log.Begin] nothing is kept.
func Open(o Options, r *Recovered) (*Log, error) {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	o.Interval = max(o.Interval, idleFlush)
	if o.Segment <= 0 {
		o.Segment = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{o: o, items: map[Key]*entry{}, quit: make(chan struct{})}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("server.state_dir: %w", err)
	}
	if r == nil {
		l.broken.Store(true) // until it is written whole
		l.down = errors.New("it has not begun")
		return l, nil
	}
	l.items, l.segment = r.entries, r.last
	for _, s := range r.known {
		l.above = max(l.above, s.version)
	}
	l.count.Recovered, l.count.Damaged = len(r.Items), len(r.Damaged)
	var err error
	if l.index, err = openIndex(l.path(indexName), r.next); err != nil {
		return nil, fmt.Errorf("server.state_dir: %w", err)
	}
	if r.behind {
		if err := l.reindex(); err != nil {
			return nil, errors.Join(fmt.Errorf("server.state_dir: %w", err), l.index.close())
		}
	}
	for _, k := range r.Damaged {
		l.Append(Change{Key: k, Op: Drop})
	}
	if err := l.roll(); err != nil {
		return nil, errors.Join(fmt.Errorf("server.state_dir: %w", err), l.index.close())
	}
	return l, nil
}

// reindex empties the index; the next write puts every item into it.
func (l *Log) reindex() error {
	if err := l.index.file.Truncate(0); err != nil {
		return err
	}
	l.index.next = 0
	for _, e := range l.items {
		e.slot, e.pending = -1, true
		l.touched = append(l.touched, e)
	}
	return nil
}

// Begin keeps all that there is by now, and then what changes.
func (l *Log) Begin() error {
	l.turn.Lock()
	var err error
	if l.broken.Load() {
		var position uint64
		if position, err = l.whole(); err == nil {
			l.mu.Lock()
			l.down = nil
			l.mu.Unlock()
			l.kept.Store(position)
			l.broken.Store(false)
		}
	} else {
		err = l.flush()
	}
	l.turn.Unlock()
	if err != nil {
		return fmt.Errorf("keep state in %s: %w", l.o.Dir, err)
	}
	l.done.Go(l.run)
	return nil
}

// headOf is the first record of a segment. It says in which start of the machine it was written:
// of the log of an earlier one, the index may know more than had come to the disk.
func headOf(version uint32, o *Options) []byte {
	data := []byte("interval " + boot())
	if o.Always {
		data = []byte("always " + boot())
	}
	return statefile.AppendRecord(nil, &statefile.Record{Op: opBegin, Version: version, ID: "guado-log", Data: data})
}

// boot names this start of the machine; empty: it has no name.
var boot = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
})

// behind reports whether the index may be ahead of a segment though nothing is damaged: the
// machine has ended, before the last of it came to the disk.
func behind(head []byte) bool {
	when, is := bytes.CutPrefix(head, []byte("interval "))
	return is && string(when) != boot()
}
