package mirror

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
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
func load(t *testing.T, data []byte) (*Mirror, Loaded, error) {
	t.Helper()
	m := New(0, Limits{})
	all, err := m.load(func(record func([]byte) error) error { return file.Decode(data, record) })
	return m, all, err
}

func TestStoresAreTheSameBehindAStopAndAStart(t *testing.T) {
	before, data := kept(t)
	m, all, err := load(t, data)
	if err != nil || len(all.Stores) != 2 || !all.All || len(all.Lost) > 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, one := range all.Stores {
		if err := m.Restore(one.Owner, one.Ref(), one.Records); err != nil {
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

// TestWhateverOfAFileIsDamagedAStoreIsWholeOrKnownToBeLost damages every range of bytes.
func TestWhateverOfAFileIsDamagedAStoreIsWholeOrKnownToBeLost(t *testing.T) {
	before, data := kept(t)
	want := map[Ref]string{}
	all, _ := before.all()
	for _, one := range all {
		want[one.Ref()] = string(one.Records)
	}
	for size := 1; size <= len(data); size *= 3 {
		for at := 0; at < len(data); at += max(1, size/2) {
			end := min(at+size, len(data))
			zeros := slices.Concat(data[:at], make([]byte, end-at), data[end:])
			for _, damaged := range [][]byte{flipped(data, at), zeros, slices.Concat(data[:at], data[end:]), data[:at]} {
				if bytes.Equal(damaged, data) {
					continue
				}
				_, got, err := load(t, damaged)
				missing := maps.Clone(want)
				for _, one := range got.Stores {
					if want[one.Ref()] != string(one.Records) {
						t.Fatalf("%d bytes at %d: a store is another", size, at)
					}
					delete(missing, one.Ref())
				}
				for _, ref := range got.Lost {
					delete(missing, ref)
				}
				if err == nil && len(got.Lost)+len(missing) > 0 {
					t.Fatalf("%d bytes at %d: nothing is said", size, at)
				}
				if got.All && len(missing) > 0 {
					t.Fatalf("%d bytes at %d: %v are lost, and nobody is told (%v)", size, at, missing, err)
				}
			}
		}
	}
}

func flipped(data []byte, at int) []byte {
	out := bytes.Clone(data)
	out[at] ^= 0x15
	return out
}
