package mirror

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"pgregory.net/rapid"
)

var page = Ref{Page, "P"}

// frame makes the state of a commit.
func frame(sequence uint64, name string, generation uint64, ref Ref, count int, records []byte) []byte {
	le := binary.LittleEndian
	out := le.AppendUint64([]byte{version, 0, 0, 0, 0, 0, 0, 0}, sequence)
	out = append(le.AppendUint16(le.AppendUint16(out, 1), uint16(len(name))), name...)
	out = le.AppendUint64(out, generation)
	out = append(le.AppendUint32(out, 1), 0, 0, byte(ref.Kind))
	out = append(le.AppendUint16(out, uint16(len(ref.ID))), ref.ID...)
	out = le.AppendUint32(le.AppendUint64(out, 0), uint32(count))
	return appendBytes(out, records)
}

func set(key, value string) []byte {
	return appendBytes(appendPath([]byte{byte(opSet)}, []string{key}), []byte(value))
}

func open(t rapid.TB) *Mirror {
	t.Helper()
	m := New(40, Limits{})
	if err := m.Open("anna", page); err != nil {
		t.Fatal(err)
	}
	return m
}

func snapshot(t rapid.TB, m *Mirror) []byte {
	t.Helper()
	records, _, err := m.Snapshot(page)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestTheGoldenVectorsMakeTheSameStoresHereAsInPython(t *testing.T) {
	text, err := os.ReadFile("../../protocol/vectors/store.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Stores []struct {
			Name, Records, Snapshot string
			Bytes                   int64
		}
		Refused []struct{ Name, Records string }
		Commit  struct {
			Before, State, After, User, Page string
			Generation                       uint64
		}
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	for _, c := range golden.Stores {
		records := unhex(t, c.Records)
		m := New(0, Limits{})
		if err := m.Restore("anna", page, records); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if got := hex.EncodeToString(snapshot(t, m)); got != c.Snapshot {
			t.Errorf("%s: the snapshot is\n%s, not\n%s", c.Name, got, c.Snapshot)
		}
		if m.Bytes() != c.Bytes {
			t.Errorf("%s: %d bytes in the account, not %d", c.Name, m.Bytes(), c.Bytes)
		}
		if m.Drop(page); m.Bytes() != 0 {
			t.Errorf("%s: %d bytes are left of nothing", c.Name, m.Bytes())
		}
	}
	m := New(golden.Commit.Generation-1, Limits{})
	if err := m.Restore(golden.Commit.User, Ref{Page, golden.Commit.Page}, unhex(t, golden.Commit.Before)); err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(&Source{}, unhex(t, golden.Commit.State)); err != nil {
		t.Error(err)
	}
	if got := hex.EncodeToString(snapshot(t, m)); got != golden.Commit.After {
		t.Errorf("after the commit the store is\n%s, not\n%s", got, golden.Commit.After)
	}
	for _, c := range golden.Refused {
		records := unhex(t, c.Records)
		if err := New(0, Limits{}).Restore("anna", page, records); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestACommitMustBeTheNextOne(t *testing.T) {
	m := open(t)
	generation := m.Generation("anna")
	var from Source
	for _, c := range []struct {
		sequence uint64
		want     error
	}{{2, ErrGap}, {1, nil}, {1, ErrGap}, {3, ErrGap}, {2, nil}} {
		if err := m.Apply(&from, frame(c.sequence, "anna", generation, page, 1, set("a", "1"))); !errors.Is(err, c.want) {
			t.Errorf("commit %d: %v, not %v", c.sequence, err, c.want)
		}
	}
}

func TestACommitOfAnOlderGenerationIsRefusedWholeAndCounts(t *testing.T) {
	m := open(t)
	old := m.Generation("anna")
	if old != 41 {
		t.Fatalf("the first generation is %d, and 40 was the highest ever given", old)
	}
	var from Source
	if now := m.Bump("anna"); now <= old {
		t.Fatalf("generation %d after %d", now, old)
	}
	if err := m.Apply(&from, frame(1, "anna", old, page, 1, set("a", "1"))); !errors.Is(err, ErrStale) {
		t.Fatal(err)
	}
	if len(snapshot(t, m)) != 0 {
		t.Error("something of it was done")
	}
	if err := m.Apply(&from, frame(2, "anna", m.Generation("anna"), page, 1, set("a", "1"))); err != nil {
		t.Fatal(err)
	}
}

func TestAStoreOfAnotherUserIsNotWritten(t *testing.T) {
	m := open(t)
	bert := m.Bump("bert")
	var from Source
	if err := m.Apply(&from, frame(1, "bert", bert, page, 1, set("a", "1"))); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestACommitAboveALimitIsCorruptAndNotDone(t *testing.T) {
	for name, limits := range map[string]Limits{"of a store": {Store: 40}, "of all": {All: 40}} {
		m := New(0, limits)
		if err := m.Open("anna", page); err != nil {
			t.Fatal(err)
		}
		var from Source
		for value, want := range map[string]error{"1": nil, "1234567890": ErrCorrupt} {
			err := m.Apply(&from, frame(from.last+1, "anna", m.Generation("anna"), page, 1, set("a", value)))
			if !errors.Is(err, want) {
				t.Errorf("limit %s, value %s: %v", name, value, err)
			}
		}
		if m.Bytes() > 34 {
			t.Errorf("limit %s: %d bytes", name, m.Bytes())
		}
	}
}

// records draws some that are well-formed; whether they fit the store is another matter.
func records(t *rapid.T) (count int, out []byte) {
	path := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "é", ""}), 1, 3)
	item := rapid.SliceOfN(rapid.Byte(), 0, 6)
	count = rapid.IntRange(0, 12).Draw(t, "count")
	for range count {
		o := op(rapid.IntRange(int(opSet), int(opDrain)).Draw(t, "op"))
		out = append(out, byte(o))
		if o >= opChange {
			out = append(out, 0)
		} else {
			out = appendPath(out, path.Draw(t, "path"))
		}
		if o == opReplace {
			out = binary.LittleEndian.AppendUint32(out, uint32(rapid.IntRange(0, 3).Draw(t, "at")))
			out = binary.LittleEndian.AppendUint32(out, uint32(rapid.IntRange(0, 2).Draw(t, "removed")))
		}
		switch o {
		case opSet, opChange:
			out = appendBytes(out, item.Draw(t, "value"))
		case opList, opAppend, opReplace:
			items := rapid.SliceOfN(item, 0, 3).Draw(t, "items")
			out = binary.LittleEndian.AppendUint32(out, uint32(len(items)))
			for _, i := range items {
				out = appendBytes(out, i)
			}
		case opDrain:
			out = binary.LittleEndian.AppendUint64(out, uint64(rapid.IntRange(0, 4).Draw(t, "number")))
		}
	}
	return count, out
}

func TestACommitIsDoneWholeOrNotAtAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := open(t)
		var from Source
		for range rapid.IntRange(1, 6).Draw(t, "commits") {
			before, cost := snapshot(t, m), m.Bytes()
			count, data := records(t)
			err := m.Apply(&from, frame(from.last+1, "anna", m.Generation("anna"), page, count, data))
			if err != nil && (!bytes.Equal(before, snapshot(t, m)) || m.Bytes() != cost) {
				t.Fatalf("refused (%v), and yet done in part", err)
			}
			again := New(0, Limits{})
			if err := again.Restore("anna", page, snapshot(t, m)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(snapshot(t, again), snapshot(t, m)) || again.Bytes() != m.Bytes() {
				t.Fatal("what is restored of a snapshot is another store")
			}
		}
		if m.Drop(page); m.Bytes() != 0 {
			t.Fatalf("%d bytes are left of nothing", m.Bytes())
		}
	})
}

func FuzzApply(f *testing.F) {
	f.Add(frame(1, "anna", 41, page, 1, set("a", "1")))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := open(t)
		if m.Apply(&Source{}, data) != nil && (len(snapshot(t, m)) != 0 || m.Bytes() != 0) {
			t.Error("refused, and yet done in part")
		}
	})
}
