package mirror

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/internal/statefile"
)

// kept is a mirror with some stores, and its file.
func kept(t *testing.T) (m *Mirror, data []byte) {
	t.Helper()
	m = open(t)
	var from Source
	for _, key := range []string{"a", "b"} {
		if err := m.Apply(&from, frame(from.last+1, "anna", m.Generation("anna"), page, 1, set(key, "12"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Open("bert", Ref{User, "bert"}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return m, data
}

// load reads a file with these bytes.
func load(t *testing.T, data []byte) (*Mirror, []Saved, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	m := New(0, Limits{})
	all, err := m.Load(dir)
	return m, all, err
}

func TestStoresAreTheSameBehindAStopAndAStart(t *testing.T) {
	before, data := kept(t)
	m, all, err := load(t, data)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d stores, %v", len(all), err)
	}
	for i := range all {
		if err := m.Restore(all[i].Owner, all[i].Ref(), all[i].Records); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(snapshot(t, m), snapshot(t, before)) || m.Bytes() != before.Bytes() {
		t.Error("the stores are others")
	}
	if got := m.Generation("anna"); got <= before.Issued() {
		t.Errorf("generation %d, and %d was given before", got, before.Issued())
	}
}

func TestAFileOfStoresIsTakenWholeOrNotAtAllWhateverByteIsDamaged(t *testing.T) {
	_, data := kept(t)
	for at := range data {
		for _, damaged := range [][]byte{flipped(data, at), data[:at]} {
			m, all, err := load(t, damaged)
			var other *statefile.VersionError
			if !errors.Is(err, statefile.ErrDamaged) && !errors.As(err, &other) || len(all) > 0 || m.Issued() > 0 {
				t.Fatalf("byte %d: %d stores, %v", at, len(all), err)
			}
		}
	}
}

func flipped(data []byte, at int) []byte {
	out := bytes.Clone(data)
	out[at] ^= 0x15
	return out
}
