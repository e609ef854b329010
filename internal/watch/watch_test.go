package watch

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func write(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(time.Now().String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, dirs ...string) *Watcher {
	t.Helper()
	w, err := New(dirs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func next(t *testing.T, w *Watcher) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changed, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestManyChangesAtOnceAreToldOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pkg", "b.py"))
	w := start(t, dir)
	for range 3 {
		write(t, filepath.Join(dir, "a.py"))
		write(t, filepath.Join(dir, "pkg", "b.py"))
	}
	if got, want := next(t, w), []string{filepath.Join(dir, "a.py"), filepath.Join(dir, "pkg", "b.py")}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What must not be told comes before what must: the one answer names the last only.
func TestCachesDataAndVirtualEnvironmentsAreNoChanges(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"__pycache__/a.pyc", ".git/config.py", "node_modules/x/y.py", "venv/pyvenv.cfg", "venv/lib/z.py", "real/r.py"} {
		write(t, filepath.Join(dir, name))
	}
	w := start(t, dir)
	for _, name := range []string{
		"__pycache__/a.py", ".git/config.py", "node_modules/x/y.py", "venv/lib/z.py", "db.sqlite3", "db.sqlite3-journal",
		"upload.jpg", "a.py~", ".#a.py", ".a.py.swp", "4913", "log.txt",
	} {
		write(t, filepath.Join(dir, name))
	}
	if err := os.Chmod(filepath.Join(dir, "real", "r.py"), 0o644); err != nil { //nolint:gosec // a mere change of mode
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "real", "templates.html"))
	if got := next(t, w); !slices.Equal(got, []string{filepath.Join(dir, "real", "templates.html")}) {
		t.Errorf("got %q", got)
	}
}

func TestANewFolderIsWatchedWithWhatCameAlong(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, filepath.Join(elsewhere, "app", "deep", "m.py"))
	w := start(t, dir)
	if err := os.Rename(filepath.Join(elsewhere, "app"), filepath.Join(dir, "app")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "app", "deep", "m.py")
	if got := next(t, w); !slices.Equal(got, []string{file}) {
		t.Errorf("it came: got %q", got)
	}
	write(t, file)
	if got := next(t, w); !slices.Equal(got, []string{file}) {
		t.Errorf("it changed: got %q", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := next(t, w); !slices.Equal(got, []string{file}) {
		t.Errorf("it went: got %q", got)
	}
}

func TestAFileReplacedByRenameHasChanged(t *testing.T) { // as editors save
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.py"))
	w := start(t, dir)
	write(t, filepath.Join(dir, "a.py.new"))
	if err := os.Rename(filepath.Join(dir, "a.py.new"), filepath.Join(dir, "a.py")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, w); !slices.Equal(got, []string{filepath.Join(dir, "a.py")}) {
		t.Errorf("got %q", got)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	w := start(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAFolderThatIsNotThereIsAnError(t *testing.T) {
	if _, err := New([]string{filepath.Join(t.TempDir(), "nope")}, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
