package push

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Save writes all sessions into a file, at once and whole or not at all. It is the last
// thing before the end: clients are let go, and nothing is pushed any more.
func (h *Hub) Save(path string) (err error) {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".sessions-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save push sessions: %w", err)
	}
	defer func() {
		if err != nil {
			// The first error is the one that tells; what is left over is removed if it can be.
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("save push sessions to %s: %w", path, err)
		}
	}()
	if err := h.save(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// Restore takes the sessions of a file and removes it, before any of them is used: a
// file that was read once is older than what clients are told from then on, and read
// again after a crash it would give the same numbers to other frames. No file is no
// error. A damaged one is put aside under a name ending in ".damaged".
func (h *Hub) Restore(path string) ([]*Session, error) {
	saved, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		if errors.Is(err, errState) {
			err = errors.Join(err, os.Rename(path, path+".damaged"))
		}
		return nil, fmt.Errorf("restore push sessions from %s: %w; pages that were open before begin anew", path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("restore push sessions: the file must be removed first: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("restore push sessions from %s: %w", path, err)
	}
	all := make([]*Session, 0, len(saved))
	for _, v := range saved {
		s := h.session(v)
		if _, err := h.enter(s); err != nil {
			return all, fmt.Errorf("restore page %q: %w", v.Page, err)
		}
		s.mu.Lock()
		now := h.wheel.clock()
		s.planLocked(sooner(now+ticks(s.lifeLocked()), s.expiryLocked(now)))
		s.mu.Unlock()
		all = append(all, s)
	}
	return all, nil
}

func readFile(path string) ([]*savedSession, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return readState(f)
}

// syncDir makes a new or removed name last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
