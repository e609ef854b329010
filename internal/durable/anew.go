package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	indexName = "index"
	suffixLog = ".log"
	suffixNew = ".new" // of what is not whole yet
)

func (l *Log) path(name string) string { return filepath.Join(l.o.Dir, name) }

func segmentName(n uint64) string { return fmt.Sprintf("%016d", n) }

// segments are the numbers of those in the folder, the oldest first.
func segments(dir string) (all []uint64, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range list {
		if name, is := strings.CutSuffix(f.Name(), suffixLog); is {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all, err
}

// roll begins another segment. The turn is held.
func (l *Log) roll() error {
	f, err := os.OpenFile(l.path(segmentName(l.segment+1)+suffixLog), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// Else with the next fsync: behind a crash there is much that it would wait for.
	if _, err = f.Write(headOf(version, &l.o)); err == nil && l.o.Always {
		err = syncFolder(l.o.Dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.segment++
	old := l.file
	l.file = f
	l.mu.Lock()
	defer l.mu.Unlock()
	if old != nil {
		l.retired = append(l.retired, old)
	}
	l.begun = true
	l.base = l.written
	return nil
}

// compact begins another segment and has all items written into it, beside what is written
// anyway. The turn is held.
func (l *Log) compact() {
	if !l.compacting.CompareAndSwap(false, true) {
		return
	}
	if err := l.roll(); err != nil {
		l.compacting.Store(false)
		l.fail(err)
		return
	}
	first, kinds := l.segment, l.o.Kinds
	l.done.Go(func() {
		defer l.compacting.Store(false)
		if err := l.compactInto(first, kinds); err != nil {
			l.o.Log.Debug("the log was not written anew", "error", err)
		}
	})
}

// atOnce is how many items are written anew between two looks at whether others wait.
const atOnce = 256

func (l *Log) compactInto(first uint64, kinds map[byte]Kind) error {
	dead := l.keys(true)
	for all := l.keys(false); len(all) > 0; {
		select {
		case <-l.quit:
			return nil
		default:
		}
		n := min(len(all), atOnce)
		l.rewrite(all[:n], kinds)
		if err := l.Wait(); err != nil {
			return err
		}
		all = all[n:]
	}
	l.turn.Lock()
	file, index := l.file, l.index
	l.turn.Unlock()
	// Not sync: another one may be at it, and not through.
	if err := l.syncAll(file, index); err != nil {
		if !errors.Is(err, os.ErrClosed) { // closed: others have begun anew meanwhile
			l.fail(fmt.Errorf("fsync: %w", err)) // the kernel tells it once
		}
		return err
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.broken.Load() || l.file != file {
		return l.why()
	}
	if err := l.dropBefore(first); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range dead {
		if e := l.items[k]; e.dead && !e.pending {
			l.forgetLocked(e)
			if e.slot >= 0 {
				l.index.spare = append(l.index.spare, e.slot)
			}
		}
	}
	l.written -= l.base
	l.base = l.written
	l.count.Anew++
	return nil
}

// keys are those of all items, or of those that have ended.
func (l *Log) keys(dead bool) (all []Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.items {
		if e.dead == dead {
			all = append(all, k)
		}
	}
	return all
}

// rewrite has items written whole.
func (l *Log) rewrite(all []Key, kinds map[byte]Kind) {
	for _, k := range all {
		if again := kinds[k.Kind].Rewrite; again != nil {
			again(k.ID)
		} else {
			l.Touch(k.Kind, k.ID)
		}
	}
}

// dropBefore removes segments that are not needed any more.
func (l *Log) dropBefore(first uint64) error {
	all, err := segments(l.o.Dir)
	for _, n := range all {
		if n < first {
			err = errors.Join(err, os.Remove(l.path(segmentName(n)+suffixLog)))
		}
	}
	return errors.Join(err, syncFolder(l.o.Dir))
}

// every is how often it is tried to begin anew.
const every = time.Second

// revive writes all that there is into files of their own, and takes them in the place of
// those that failed. Until then nothing counts as kept.
func (l *Log) revive() {
	l.turn.Lock()
	defer l.turn.Unlock()
	if time.Since(l.failed) < every {
		return
	}
	l.failed = time.Now()
	position, err := l.whole()
	if err != nil {
		l.mu.Lock()
		l.down, l.buf, l.dirty = err, nil, nil
		for _, e := range l.items {
			e.dirty = false
		}
		l.mu.Unlock()
		return
	}
	l.kept.Store(position)
	l.broken.Store(false)
	l.o.Log.Info("state is kept again", "folder", l.o.Dir)
}

// whole is revive's attempt, and the first of a log. The turn is held.
func (l *Log) whole() (position uint64, err error) {
	name := l.path(segmentName(l.segment + 1))
	file, err := os.OpenFile(name+suffixNew, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	x, err := openIndex(l.path(indexName+suffixNew), 0)
	if err == nil {
		err = x.file.Truncate(0)
	}
	if err == nil {
		_, err = file.Write(headOf(version, &l.o))
	}
	if err != nil {
		return 0, errors.Join(err, file.Close(), x.close())
	}
	oldFile, oldIndex := l.file, l.index
	l.mu.Lock()
	l.file, l.index, l.down = file, x, nil
	l.buf, l.dirty, l.touched = nil, nil, nil
	for _, e := range l.items {
		e.slot, e.pending, e.dirty = -1, false, false
		if e.dead {
			l.forgetLocked(e)
		}
	}
	l.written, l.base = 0, 0
	l.mu.Unlock()
	position, err = l.pushAll()
	for _, step := range []func() error{
		file.Sync, x.sync,
		func() error { return os.Rename(l.path(indexName+suffixNew), l.path(indexName)) },
		func() error { return os.Rename(name+suffixNew, name+suffixLog) },
		func() error { return syncFolder(l.o.Dir) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err != nil {
		l.file, l.index = oldFile, oldIndex
		_ = os.Remove(name + suffixNew) // what is left is overwritten by the next attempt
		return 0, errors.Join(err, file.Close(), x.file.Close())
	}
	l.segment++
	l.mu.Lock()
	l.base = l.written
	l.count.Anew++
	l.mu.Unlock()
	if oldFile != nil {
		// They have failed: what closing them says is known.
		_ = oldFile.Close()
	}
	if oldIndex != nil {
		_ = oldIndex.file.Close()
	}
	return position, l.dropBefore(l.segment)
}

// pushAll writes every item.
func (l *Log) pushAll() (position uint64, err error) {
	for all := l.keys(false); ; {
		n := min(len(all), atOnce)
		l.rewrite(all[:n], l.o.Kinds)
		if position, err = l.push(); err != nil {
			return 0, err
		}
		if all = all[n:]; len(all) == 0 {
			return position, nil
		}
	}
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
