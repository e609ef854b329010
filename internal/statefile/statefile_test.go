package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var kind = Kind{Name: "guado-test", Version: 3, Line: 1 << 20}

// long does not fit into one read.
var long = strings.Repeat("é<&\n", 40_000)

func records(list ...any) (int, iter.Seq[any]) { return len(list), slices.Values(list) }

func write(t testing.TB, path string, list ...any) []byte {
	t.Helper()
	n, all := records(list...)
	if err := kind.Write(path, n, all); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func take(path string) (got []string, err error) {
	err = kind.Take(path, func(line []byte) error {
		var s string
		err := json.Unmarshal(line, &s)
		got = append(got, s)
		return err
	})
	return got, err
}

func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestWhatWasWrittenIsTakenOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	write(t, path, "before")
	write(t, path, "one", long, "")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if names := left(t, dir); !slices.Equal(names, []string{"state"}) {
		t.Errorf("beside it: %q", names)
	}
	got, err := take(path)
	if err != nil || !slices.Equal(got, []string{"one", long, ""}) {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if got, err := take(path); err != nil || got != nil {
		t.Errorf("a second time: %q, %v", got, err)
	}
	if names := left(t, dir); names != nil {
		t.Errorf("left over: %q", names)
	}
}

func TestADamagedFileIsPutAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	whole := write(t, path, "one", "two")
	end := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for name, text := range map[string][]byte{
		"empty":             {},
		"half":              whole[:len(whole)/2],
		"without its end":   whole[:len(whole)-1],
		"without checksum":  whole[:end],
		"more behind it":    append(bytes.Clone(whole), 'x'),
		"another file":      []byte("hello\n"),
		"a record too many": bytes.Replace(whole, []byte(" 2\n"), []byte(" 3\n"), 1),
		"a record too few":  bytes.Replace(whole, []byte(" 2\n"), []byte(" 1\n"), 1),
		"minus one record":  bytes.Replace(whole, []byte(" 2\n"), []byte(" -1\n"), 1),
		"no record":         bytes.Replace(whole, []byte(`"one"`), []byte(`{"a":`), 1),
		"too long a line":   append([]byte("guado-test 3 1\n"), bytes.Repeat([]byte("a"), 2<<20)...),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := take(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if names := left(t, dir); !slices.Equal(names, []string{"state.damaged"}) {
			t.Errorf("%s: %q", name, names)
		}
	}
}

func TestNoByteCanChangeUnseen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	whole := write(t, path, "one", "two")
	for i := range whole {
		text := bytes.Clone(whole)
		text[i] ^= 1
		if kind.Decode(bytes.NewReader(text), func([]byte) error { return nil }) == nil {
			t.Errorf("byte %d of %q", i, whole)
		}
	}
}

func TestAFileOfAnotherVersionIsPutAsideAndNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	text := bytes.Replace(write(t, path, "one"), []byte(" 3 "), []byte(" 12 "), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var other *VersionError
	if _, err := take(path); !errors.As(err, &other) || other.Found != "12" {
		t.Errorf("%v", err)
	}
	if names := left(t, dir); !slices.Equal(names, []string{"state.version-12"}) {
		t.Errorf("%q", names)
	}
}

func TestAWriteThatFailsLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	before := write(t, path, "one")
	n, all := records("two", func() {})
	if err := kind.Write(path, n, all); err == nil {
		t.Error("a function was written")
	}
	full := errors.New("no space left on device")
	if err := Replace(path, func(io.Writer) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%q, %v", after, err)
	}
	if names := left(t, dir); !slices.Equal(names, []string{"state"}) {
		t.Errorf("%q", names)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(write(f, filepath.Join(f.TempDir(), "state"), "one", "two"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got []any
		if kind.Decode(bytes.NewReader(text), func(line []byte) error {
			got = append(got, json.RawMessage(line))
			return nil
		}) != nil {
			return
		}
		if !bytes.HasPrefix(text, []byte(kind.Name)) || bytes.Count(text, []byte("\n")) != len(got)+2 {
			t.Errorf("%d records of %q", len(got), text)
		}
	})
}
