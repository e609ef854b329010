package durable

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// flush writes what there is. The turn is held.
func (l *Log) flush() error {
	if l.broken.Load() {
		return l.why()
	}
	position, err := l.push()
	if err != nil {
		l.fail(err)
		return l.why()
	}
	l.kept.Store(position)
	return nil
}

// push writes what there is, whether or not that makes it kept. The turn is held.
func (l *Log) push() (position uint64, err error) {
	// What was touched before something was appended must not come behind it.
	for round := 0; ; round++ {
		l.mu.Lock()
		dirty := l.dirty
		if len(dirty) == 0 {
			position = l.appended.Load()
			break
		}
		if round == mostRounds {
			break // they never end: some are left to the next write
		}
		position = l.appended.Load()
		l.dirty = nil
		for _, k := range dirty {
			l.items[k].dirty = false
		}
		l.mu.Unlock()
		l.describe(dirty)
	}
	if len(l.buf) > 0 {
		l.recordLocked(&statefile.Record{Op: opEnd})
	}
	buf, touched := l.buf, l.touched
	l.buf, l.touched = l.spare[:0], nil
	slots := make([]slot, 0, len(touched))
	for _, e := range touched {
		e.pending = false
		if e.slot < 0 {
			e.slot = l.index.free()
		}
		slots = append(slots, slot{at: e.slot, hash: hashOf(e.key), version: e.version, dead: e.dead})
	}
	l.mu.Unlock()

	err = l.write(buf, slots)
	if l.spare = buf; cap(buf) > keepBuffer {
		l.spare = nil
	}
	return position, err
}

// mostRounds is how often it is asked again what was touched meanwhile.
const mostRounds = 8

// keepBuffer is the most memory that is kept for the next write.
const keepBuffer = 1 << 20

// describe appends those that were touched as they are now.
func (l *Log) describe(dirty []Key) {
	for _, k := range dirty {
		c := Change{Key: k, Op: Drop}
		if describe := l.o.Kinds[k.Kind].Describe; describe != nil { // else nobody keeps such items now
			if data, ok := describe(k.ID); ok {
				c.Op, c.Data = Put, data
			}
		}
		l.mu.Lock()
		l.appendLocked(&c)
		l.mu.Unlock()
	}
}

func (l *Log) write(buf []byte, slots []slot) error {
	if len(buf)+len(slots) == 0 {
		return nil
	}
	if err := faultWrite(); err != nil {
		return err
	}
	n, err := l.file.Write(buf)
	if err != nil {
		return err
	}
	if l.o.Always {
		if err := l.file.Sync(); err != nil {
			return err
		}
	}
	// Behind the log: an item that the index knows in a later version than the log has is
	// held to be damaged.
	if err := l.index.write(slots); err != nil {
		return err
	}
	l.mu.Lock()
	l.written += int64(n)
	l.count.Writes++
	if l.o.Always {
		l.count.Syncs++
	}
	full := l.written-l.base > max(l.o.Segment, l.base)
	l.mu.Unlock()
	if full {
		l.compact()
	}
	return nil
}

// fail notes that the log cannot be written. A file of which a write or fsync has failed is
// not used again: nobody knows what of it the kernel still has. When there is room, all is
// written anew.
func (l *Log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return
	}
	l.down = err
	l.broken.Store(true)
	l.count.Failed++
	l.buf, l.dirty = nil, nil
	for _, e := range l.items {
		e.dirty = false
	}
	l.o.Log.Error("state cannot be kept, so nothing that rests on changes of it is answered (503 durability_unavailable) until it can be; is the disk full?", "folder", l.o.Dir, "error", err)
}

// run keeps what nobody waits for, syncs, and begins anew after a failure.
func (l *Log) run() {
	idle := time.NewTicker(idleFlush)
	defer idle.Stop()
	last := time.Now()
	for {
		select {
		case <-l.quit:
			return
		case <-idle.C:
		}
		if l.broken.Load() {
			l.revive()
			continue
		}
		_ = l.Wait() // an error is in the log already
		if time.Since(last) >= l.o.Interval {
			last = time.Now()
			l.sync()
		}
	}
}

// idleFlush is how long a change may wait that nobody waits for.
const idleFlush = 50 * time.Millisecond

// sync brings all to the disk that was written.
func (l *Log) sync() {
	l.turn.Lock()
	file, index := l.file, l.index
	l.turn.Unlock()
	l.mu.Lock()
	retired, begun := l.retired, l.begun
	l.retired, l.begun = nil, false
	synced := l.count.Writes == l.count.Synced && !begun
	l.count.Synced = l.count.Writes
	l.mu.Unlock()
	if synced || l.o.Always && !begun {
		return
	}
	var err error
	for _, f := range retired {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	err = errors.Join(err, l.syncAll(file, index))
	if err != nil && !errors.Is(err, os.ErrClosed) { // closed: others have begun anew meanwhile
		l.fail(fmt.Errorf("fsync: %w", err))
		return
	}
	l.mu.Lock()
	l.count.Syncs++
	l.mu.Unlock()
}

// syncAll brings a segment, the index and their names to the disk.
func (l *Log) syncAll(file *os.File, index *index) error {
	return errors.Join(file.Sync(), index.sync(), syncFolder(l.o.Dir))
}
