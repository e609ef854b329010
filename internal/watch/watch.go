// Package watch tells when the files of an application have changed, for
// `guado dev`.
// Before it: cmd/guado. After it: the server, which restarts workers.
// Not here: restarting anything.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long nothing may happen before a change counts as complete: editors
// write in several steps, a checkout touches many files.
const quiet = 150 * time.Millisecond

// extensions are the files an application is made of. Data is left out on purpose:
// a database or an upload in the folder would restart the worker at every request.
var extensions = []string{
	".py", ".so", ".html", ".htm", ".jinja", ".jinja2", ".j2", ".mako",
	".toml", ".yaml", ".yml", ".ini", ".cfg", ".env", ".mo",
}

// skipped are folders that hold none of the application's own files.
var skipped = []string{"__pycache__", "node_modules", "site-packages"}

// Watcher watches folders with all that is below them.
type Watcher struct {
	notify *fsnotify.Watcher
	log    *slog.Logger
}

// New starts to watch; Close ends it.
func New(dirs []string, log *slog.Logger) (*Watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch for changes: %w", err)
	}
	w := &Watcher{notify: notify, log: log}
	for _, dir := range dirs {
		if err := w.add(dir, true); err != nil {
			return nil, errors.Join(fmt.Errorf("watch %q for changes: %w", dir, err), notify.Close())
		}
	}
	return w, nil
}

// Add watches one more folder with all that is below it.
func (w *Watcher) Add(dir string) error {
	if err := w.add(dir, true); err != nil {
		return fmt.Errorf("watch %q for changes: %w", dir, err)
	}
	return nil
}

// Beside watches the folder that a file is in, and none below it: an editor puts a new
// file in the place of the old one.
func (w *Watcher) Beside(file string) error {
	if err := w.notify.Add(filepath.Dir(file)); err != nil {
		return fmt.Errorf("watch %q for changes: %w", file, err)
	}
	return nil
}

// Close ends watching.
func (w *Watcher) Close() error { return w.notify.Close() }

// add watches dir and the folders below it. What disappears meanwhile is no error.
func (w *Watcher) add(dir string, top bool) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && (!top || path != dir):
			return nil
		case err != nil:
			return err
		case !entry.IsDir():
			return nil
		case (path != dir || !top) && skip(path):
			return fs.SkipDir
		}
		if err := w.notify.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// skip reports whether a folder is a cache, hidden, or a virtual environment.
func skip(dir string) bool {
	base := filepath.Base(dir)
	if strings.HasPrefix(base, ".") || slices.Contains(skipped, base) {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "pyvenv.cfg"))
	return err == nil
}

// Next waits for a change and gives the files, in the order in which they changed
// first. It returns the context's error when that ends.
func (w *Watcher) Next(ctx context.Context) ([]string, error) {
	var changed []string
	settled := time.NewTimer(quiet)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-settled.C:
			return changed, nil
		case err, ok := <-w.notify.Errors:
			if !ok {
				return nil, fsnotify.ErrClosed
			}
			// An overflow: something changed, and nobody knows what.
			w.log.Warn("watching for changes", "error", err)
			settled.Reset(quiet)
		case event, ok := <-w.notify.Events:
			if !ok {
				return nil, fsnotify.ErrClosed
			}
			for _, name := range w.meant(event) {
				if !slices.Contains(changed, name) {
					changed = append(changed, name)
				}
				settled.Reset(quiet)
			}
		}
	}
}

// meant gives the application's files that an event is about: none for a mere
// change of mode, all of a folder that is new.
func (w *Watcher) meant(event fsnotify.Event) []string {
	if event.Op == fsnotify.Chmod {
		return nil
	}
	info, err := os.Stat(event.Name)
	if err == nil && info.IsDir() {
		if skip(event.Name) {
			return nil
		}
		if err := w.add(event.Name, false); err != nil {
			w.log.Warn("watching a new folder", "dir", event.Name, "error", err)
		}
		return filesIn(event.Name)
	}
	if relevant(event.Name) {
		return []string{event.Name}
	}
	return nil
}

// filesIn lists what came together with a folder, before it could be watched.
func filesIn(dir string) (files []string) {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what is gone again has not changed
		case entry.IsDir() && path != dir && skip(path):
			return fs.SkipDir
		case !entry.IsDir() && relevant(path):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return files
}

// relevant reports whether a file is of the application, and no editor's copy.
func relevant(name string) bool {
	base := filepath.Base(name)
	if strings.HasPrefix(base, ".#") || strings.HasSuffix(base, "~") {
		return false
	}
	return slices.Contains(extensions, strings.ToLower(filepath.Ext(base))) && (!strings.HasPrefix(base, ".") || base == ".env")
}
