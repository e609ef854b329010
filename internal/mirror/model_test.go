package mirror

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a store told in the plainest words: copied before each commit, and thrown away when
// one fails. It knows nothing of undoing, of places among sisters or of a running account.
type model struct {
	keys  []string // of a dict, in their order
	kids  map[string]*model
	list  []string
	isNot string // what it is besides a dict: "leaf" or "list"
	leaf  string

	gone    uint64 // of the root: changes
	changes []string
}

func modelDict() *model { return &model{kids: map[string]*model{}} }

func (m *model) copy() *model {
	c := *m
	c.keys, c.list, c.changes = slices.Clone(m.keys), slices.Clone(m.list), slices.Clone(m.changes)
	c.kids = map[string]*model{}
	for key, kid := range m.kids {
		c.kids[key] = kid.copy()
	}
	return &c
}

var errModel = errors.New("the model does not allow it")

func texts(items [][]byte) (out []string) {
	for _, item := range items {
		out = append(out, string(item))
	}
	return out
}

func (m *model) put(key string, kid *model) {
	if m.kids[key] == nil {
		m.keys = append(m.keys, key)
	}
	m.kids[key] = kid
}

func (m *model) do(rec record) error {
	switch {
	case rec.op == opChange:
		m.changes = append(m.changes, string(rec.items[0]))
		return nil
	case rec.op == opDrain:
		last := m.gone + uint64(len(m.changes))
		if rec.number < m.gone || last > 0 && rec.number > last {
			return errModel
		}
		m.changes = m.changes[min(rec.number-m.gone, uint64(len(m.changes))):]
		m.gone = rec.number
		return nil
	case len(rec.path) == 0:
		m.keys, m.kids = nil, map[string]*model{}
		return nil
	}
	makes := rec.op == opSet || rec.op == opClear || rec.op == opList
	at := m
	for _, key := range rec.path[:len(rec.path)-1] {
		if at.kids[string(key)] == nil && makes {
			at.put(string(key), modelDict())
		}
		at = at.kids[string(key)]
		if at == nil || at.isNot != "" {
			return errModel
		}
	}
	return at.doAt(string(rec.path[len(rec.path)-1]), rec)
}

func (m *model) doAt(key string, rec record) error {
	old := m.kids[key]
	switch rec.op {
	case opSet:
		m.put(key, &model{isNot: "leaf", leaf: string(rec.items[0])})
	case opClear:
		m.put(key, modelDict())
	case opList:
		m.put(key, &model{isNot: "list", list: texts(rec.items)})
	case opDelete:
		if old == nil {
			return errModel
		}
		delete(m.kids, key)
		m.keys = slices.DeleteFunc(m.keys, func(k string) bool { return k == key })
	default:
		if old == nil || old.isNot != "list" {
			return errModel
		}
		at, end := len(old.list), len(old.list)
		if rec.op == opReplace {
			at, end = rec.at, rec.at+rec.removed
		}
		if end > len(old.list) {
			return errModel
		}
		old.list = slices.Concat(old.list[:at], texts(rec.items), old.list[end:])
	}
	return nil
}

func (m *model) bytes() (sum int64) {
	for _, change := range m.changes {
		sum += 16 + int64(len(change))
	}
	for key, kid := range m.kids {
		sum += 32 + int64(len(key)) + int64(len(kid.leaf)) + kid.bytes()
		for _, item := range kid.list {
			sum += 16 + int64(len(item))
		}
	}
	return sum
}

func (m *model) records(out []byte, path []string) []byte {
	for _, key := range m.keys {
		kid, at := m.kids[key], append(slices.Clip(path), key)
		switch kid.isNot {
		case "leaf":
			out = appendBytes(appendPath(append(out, byte(opSet)), at), []byte(kid.leaf))
		case "list":
			out = appendPath(append(out, byte(opList)), at)
			out = append(out, byte(len(kid.list)), 0, 0, 0)
			for _, item := range kid.list {
				out = appendBytes(out, []byte(item))
			}
		default:
			out = kid.records(appendPath(append(out, byte(opClear)), at), at)
		}
	}
	return out
}

// commit does all records, or gives the model of before.
func (m *model) commit(t *rapid.T, data []byte) (*model, error) {
	after := m.copy()
	for r := new(reader).begin(data); len(r.data) > 0; {
		rec := r.record()
		if r.err != nil {
			t.Fatal(r.err)
		}
		if err := after.do(rec); err != nil {
			return m, err
		}
	}
	return after, nil
}

func TestCommitsDoWhatAModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, want := open(t), modelDict()
		var from Source
		for range rapid.IntRange(1, 12).Draw(t, "commits") {
			count, data := records(t)
			err := m.Apply(&from, frame(from.last+1, "anna", m.Generation("anna"), page, count, data))
			after, wanted := want.commit(t, data)
			if (err != nil) != (wanted != nil) {
				t.Fatalf("the mirror says %v, and the model %v", err, wanted)
			}
			want = after
			tree := m.stores[page]
			got := appendDict(nil, tree.root, nil)
			if !bytes.Equal(got, want.records(nil, nil)) {
				t.Fatalf("the store is\n%x, and the model\n%x", got, want.records(nil, nil))
			}
			if !slices.Equal(texts(tree.changes), want.changes) || tree.gone != want.gone {
				t.Fatalf("changes %q behind %d, not %q behind %d", tree.changes, tree.gone, want.changes, want.gone)
			}
			if m.Bytes() != want.bytes() {
				t.Fatalf("%d bytes in the account, and %d in the model", m.Bytes(), want.bytes())
			}
		}
	})
}

func TestWhatAFrameHeldIsCopiedOutOfIt(t *testing.T) {
	m := open(t)
	list := appendPath([]byte{byte(opList)}, []string{"list"})
	list = appendBytes(append(list, 1, 0, 0, 0), []byte("item"))
	data := slices.Concat(set("key", "value"), list, appendBytes([]byte{byte(opChange), 0}, []byte("change")))
	state := frame(1, "anna", m.Generation("anna"), page, 3, data)
	if err := m.Apply(&Source{}, state); err != nil {
		t.Fatal(err)
	}
	clear(state) // the ring's next frame
	if got := snapshot(t, m); !bytes.Equal(got, data) {
		t.Errorf("the store is %x, not %x", got, data)
	}
}

func TestWhatIsNamedTwiceInACommitIsCorrupt(t *testing.T) {
	for _, many := range []int{1, few + 1} {
		for _, twice := range []string{"user", "store"} {
			c := commit{}
			for i := range many + 1 {
				c.users = append(c.users, commitUser{name: []byte{byte('a' + i)}})
				c.batches = append(c.batches, batch{kind: Page, id: []byte{byte('a' + i)}})
			}
			if err := c.once(); err != nil {
				t.Error(err)
			}
			if twice == "user" {
				c.users[many].name = []byte("a")
			} else {
				c.batches[many].id = []byte("a")
			}
			if err := c.once(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s twice among %d: %v", twice, many+1, err)
			}
		}
	}
}

func TestAPageTakesFewBytesBeyondItsValues(t *testing.T) {
	if got := memoryOfPages(t); got > 4096 {
		t.Errorf("%.0f bytes", got)
	}
}

func FuzzRestore(f *testing.F) {
	text, err := os.ReadFile("../../protocol/vectors/store.json")
	if err != nil {
		f.Fatal(err)
	}
	var golden struct {
		Stores, Refused []struct{ Records string }
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		f.Fatal(err)
	}
	for _, c := range append(golden.Stores, golden.Refused...) {
		data, err := hex.DecodeString(c.Records)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, again := New(0, Limits{}), New(0, Limits{})
		if m.Restore("anna", page, data) != nil {
			if m.Bytes() != 0 {
				t.Error("refused, and yet in the account")
			}
			return
		}
		if err := again.Restore("anna", page, snapshot(t, m)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshot(t, again), snapshot(t, m)) || again.Bytes() != m.Bytes() {
			t.Error("what is restored of a snapshot is another store")
		}
	})
}
