package statefile

import (
	"bytes"
	"encoding/binary"
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

var kind = Kind{Name: "guado-test", Version: 3}

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
		if err == nil {
			got = append(got, s)
		}
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

func TestADamagedFileIsPutAsideAndGivesWhatIsWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	whole := write(t, path, "one", "two", "three")
	at := func(text string) int { return bytes.Index(whole, []byte(text)) }
	second := bytes.LastIndex(whole[:at("two")], []byte(recordMagic))
	third := bytes.LastIndex(whole[:at("three")], []byte(recordMagic))
	for name, c := range map[string]struct {
		text []byte
		got  []string
		lost int // of a LossError; 99: it is none
	}{
		"empty":             {nil, nil, 99},
		"another file":      {[]byte("hello\n"), nil, 99},
		"a record gone":     {slices.Concat(whole[:second], whole[third:]), []string{"one", "three"}, 1},
		"data of a record":  {flipped(whole, at("two")), []string{"one", "three"}, 1},
		"head of a record":  {flipped(whole, second+9), []string{"one", "three"}, 1},
		"no JSON":           {resum(t, bytes.Replace(whole, []byte(`"two"`), []byte(`{two}`), 1)), []string{"one", "three"}, 1},
		"half":              {whole[:third], []string{"one", "two"}, 1},
		"without its begin": {whole[second:], []string{"two", "three"}, 1},
		"without both ends": {whole[second:third], []string{"two"}, -1},
		"more behind it":    {append(bytes.Clone(whole), 'x'), []string{"one", "two", "three"}, 0},
	} {
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := take(path)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		var loss *LossError
		if is := errors.As(err, &loss); is != (c.lost != 99) || is && loss.Lost != c.lost || is != Lossy(err) {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(got, c.got) {
			t.Errorf("%s: %q", name, got)
		}
		if names := left(t, dir); !slices.Equal(names, []string{"state.damaged"}) {
			t.Errorf("%s: %q", name, names)
		}
	}
}

func flipped(text []byte, at int) []byte {
	out := bytes.Clone(text)
	out[at] ^= 1
	return out
}

// resum gives changed records their right sums.
func resum(t *testing.T, text []byte) (out []byte) {
	t.Helper()
	for len(text) > 0 {
		var r Record
		head, ok := readHead(text, &r)
		if !ok {
			t.Fatalf("%q", text)
		}
		n := head + int(binary.LittleEndian.Uint32(text[4:]))
		r.Data = text[head:n]
		out, text = AppendRecord(out, &r), text[n:]
	}
	return out
}

func TestNoByteCanChangeUnseen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	whole := write(t, path, "one", "two")
	for i := range whole {
		good := []string{}
		err := kind.Decode(flipped(whole, i), func(data []byte) error {
			good = append(good, string(data))
			return nil
		})
		if err == nil {
			t.Errorf("byte %d of %q", i, whole)
		}
		for _, text := range good {
			if text != `"one"` && text != `"two"` {
				t.Errorf("byte %d: %q was never written", i, text)
			}
		}
	}
}

func TestAFileOfAnotherVersionIsPutAsideAndNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	n, all := records("one")
	if err := (Kind{kind.Name, 12}).Write(path, n, all); err != nil {
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
		n := 0
		if kind.Decode(text, func([]byte) error { n++; return nil }) != nil {
			return
		}
		if bytes.Count(text, []byte(recordMagic)) < n+2 {
			t.Errorf("%d records of %q", n, text)
		}
	})
}
