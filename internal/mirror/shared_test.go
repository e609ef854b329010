package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// client is what a page's client makes of what it is told, in the plainest words.
type client map[string]any

type heard struct {
	Path    []string
	Value   json.RawMessage
	Delete  bool
	Items   []any
	At      *int
	Removed int
}

// plain makes dicts of what is written as pairs, because of a key that begins with a dollar sign.
func plain(value any) any {
	dict, is := value.(map[string]any)
	if !is {
		return value
	}
	out := map[string]any{}
	if pairs, is := dict["$dict"].([]any); is {
		for _, pair := range pairs {
			out[pair.([]any)[0].(string)] = plain(pair.([]any)[1])
		}
		return out
	}
	for key, one := range dict {
		out[key] = plain(one)
	}
	return out
}

func (c client) take(t *rapid.T, list []byte) {
	var all []heard
	if err := json.Unmarshal(list, &all); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for _, one := range all {
		at := map[string]any(c)
		for _, key := range one.Path[:len(one.Path)-1] {
			next, is := at[key].(map[string]any)
			if !is {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		key := one.Path[len(one.Path)-1]
		switch {
		case one.Delete:
			delete(at, key)
		case one.Items != nil:
			list, _ := at[key].([]any)
			from := len(list)
			if one.At != nil {
				from = *one.At
			}
			at[key] = slices.Concat(list[:from], one.Items, list[from+one.Removed:])
		default:
			var value any
			if err := json.Unmarshal(one.Value, &value); err != nil {
				t.Fatalf("%s: %v", list, err)
			}
			at[key] = plain(value)
		}
	}
}

// same compares what a client has at a path with the store.
func (c client) same(t *rapid.T, m *Mirror, ref Ref, path ...string) {
	t.Helper()
	want, there, err := m.Value(ref, path)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if there {
		if err := json.Unmarshal(want, &value); err != nil {
			t.Fatal(err)
		}
	}
	var got any = map[string]any(c)
	for _, key := range path {
		at, _ := got.(map[string]any)
		got = at[key]
	}
	if value = plain(value); !reflect.DeepEqual(got, value) {
		t.Fatalf("the client has %v, and the store %s", got, want)
	}
}

func (c client) clear() {
	for key := range c {
		delete(c, key)
	}
}

func shareRecord(text string) []byte { return appendBytes([]byte{byte(opShare), 0}, []byte(text)) }

func noteRecord(text string) []byte { return appendBytes([]byte{byte(opNote), 0}, []byte(text)) }

// drawRecord makes a change, which need not be possible.
func drawRecord(t *rapid.T) []byte {
	path := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a", "b", "$c"}), 1, 3).Draw(t, "path")
	value := []byte(rapid.SampledFrom([]string{"1", `"x"`, `{"$decimal":"2"}`}).Draw(t, "value"))
	kind := rapid.SampledFrom([]op{opSet, opSet, opClear, opDelete, opList, opAppend, opReplace}).Draw(t, "op")
	if rapid.IntRange(0, 30).Draw(t, "all") == 0 {
		return []byte{byte(opClear), 0}
	}
	out := appendPath([]byte{byte(kind)}, path)
	switch kind {
	case opSet:
		out = appendBytes(out, value)
	case opReplace:
		out = append(out, 0, 0, 0, 0, byte(rapid.IntRange(0, 1).Draw(t, "removed")), 0, 0, 0)
		fallthrough
	case opList, opAppend:
		out = appendBytes(append(out, 1, 0, 0, 0), value)
	}
	return out
}

// drawRecords makes changes that are possible one after the other, and seldom one that is not.
func drawRecords(t *rapid.T, m *Mirror, ref Ref) (all [][]byte, possible bool) {
	snapshot, _, err := m.Snapshot(ref)
	if err != nil {
		t.Fatal(err)
	}
	s := &store{root: newDict()}
	if err := s.apply(-1, new(reader).begin(snapshot), &undo{}); err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(1, 8).Draw(t, "records") {
		one, done := drawRecord(t), undo{}
		if s.apply(-1, new(reader).begin(one), &done) == nil {
			if by := rapid.SampledFrom([]string{"", "page", "asks"}).Draw(t, "by"); by != "" {
				all = append(all, noteRecord(fmt.Sprintf(`{"n":1,"by":%q,"as":%d}`, by, rapid.IntRange(0, 1).Draw(t, "as"))))
			}
			all = append(all, one)
		} else {
			done.run(New(0, Limits{}))
		}
	}
	if possible = rapid.IntRange(0, 9).Draw(t, "possible") > 0; !possible {
		all = append(all, appendPath([]byte{byte(opDelete)}, []string{"nothing"}))
	}
	return all, possible
}

// nesting is which of two paths, one below the other, pages share.
type nesting map[Ref][2]bool

func (n nesting) on(ref Ref) (paths [][]string) {
	for i, is := range n[ref] {
		if is {
			paths = append(paths, []string{"a", "b"}[:i+1])
		}
	}
	return paths
}

// turn shares one of them, or shares it no longer.
func (n nesting) turn(ref Ref, i int) (record string) {
	now := n[ref]
	record = fmt.Sprintf(`{"path":%s,"off":%t`, []string{`["a"]`, `["a","b"]`}[i], now[i])
	if ref.ID == "asks" {
		record += `,"kind":3,"id":"u:anna","over":"requests"`
	}
	now[i] = !now[i]
	n[ref] = now
	return record + "}"
}

// committer opens stores of a user, and commits to them; false: it was refused.
func committer(t *rapid.T, m *Mirror, refs ...Ref) func(ref Ref, records ...[]byte) bool {
	for _, ref := range refs {
		if err := m.Open("u:anna", ref); err != nil {
			t.Fatal(err)
		}
	}
	from := &Source{}
	return func(ref Ref, records ...[]byte) bool {
		err := m.Apply(from, frame(from.last+1, "u:anna", m.Generation("u:anna"), ref, len(records), slices.Concat(records...)))
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		return err == nil
	}
}

func TestWhatClientsAreToldIsWhatTheStoreHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		page, deep, asks := Ref{Page, "page"}, Ref{Page, "deep"}, Ref{Page, "asks"}
		m := New(0, Limits{})
		commit := committer(t, m, page, deep, asks, Ref{User, "u:anna"})
		sessions, polls := map[string]client{"page": {}, "deep": {}}, client{}
		nested := nesting{}
		turn := func(ref Ref, i int) {
			if text := nested.turn(ref, i); !commit(ref, shareRecord(text)) {
				t.Fatalf("%s was refused", text)
			}
		}
		asksAll := func(list []byte) {
			polls.take(t, list)
			for _, path := range nested.on(asks) {
				polls.same(t, m, Ref{User, "u:anna"}, path...)
			}
		}
		listen := func() {
			told := m.Tell(m.Queued())
			for _, one := range told {
				if one.All {
					sessions[one.Page].clear()
				}
				sessions[one.Page].take(t, one.Data)
			}
			for _, path := range nested.on(page) {
				sessions["page"].same(t, m, page, path...)
			}
			sessions["deep"].same(t, m, Ref{User, "u:anna"}, "a", "b")
		}
		turn(page, 0)
		commit(page, shareRecord(`{"path":["a","b"],"kind":3,"id":"u:anna"}`))
		commit(deep, shareRecord(`{"path":["a","b"],"kind":3,"id":"u:anna"}`))
		commit(asks, shareRecord(`{"path":["a"],"kind":2,"id":"nobody","over":"requests"}`))
		turn(asks, 0)
		commit(page, shareRecord(`{"path":["a","b"],"kind":3,"id":"u:anna","off":true}`))
		acked := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "do") {
			case 0:
				listen()
			case 1: // an answer that comes
				if err := m.Acknowledge("asks", acked); err != nil {
					t.Fatal(err)
				}
				list, number := m.HandOut("asks")
				asksAll(list)
				if acked = number; m.Acknowledge("asks", number+1) == nil {
					t.Fatal("a number was taken that was never handed out")
				}
			case 2: // and one that is lost
				m.HandOut("asks")
			case 3:
				turn(rapid.SampledFrom([]Ref{page, asks}).Draw(t, "page"), rapid.IntRange(0, 1).Draw(t, "shares"))
			default:
				ref := rapid.SampledFrom([]Ref{page, {User, "u:anna"}}).Draw(t, "store")
				before := m.Queued()
				records, possible := drawRecords(t, m, ref)
				if done := commit(ref, records...); done != possible || !done && m.Queued() != before {
					t.Fatalf("a commit that is possible (%t) was done (%t) and told", possible, done)
				}
			}
		}
		listen()
		list, number := m.HandOut("asks")
		asksAll(list)
		if err := m.Acknowledge("asks", number); err != nil {
			t.Fatal(err)
		}
		if list, _ := m.HandOut("asks"); string(list) != "[]" {
			t.Fatalf("acknowledged, and handed out again: %s", list)
		}
	})
}

func TestMoreChangesThanMayWaitAreToldAsTheWhole(t *testing.T) {
	m, from := New(0, Limits{}), &Source{}
	page := Ref{Page, "page"}
	if err := m.Open("u:anna", page); err != nil {
		t.Fatal(err)
	}
	commit := func(records ...[]byte) {
		t.Helper()
		if err := m.Apply(from, frame(from.last+1, "u:anna", m.Generation("u:anna"), page, len(records), slices.Concat(records...))); err != nil {
			t.Fatal(err)
		}
	}
	commit(shareRecord(`{"path":["a"],"over":"requests"}`))
	_, number := m.HandOut("page")
	if err := m.Acknowledge("page", number); err != nil {
		t.Fatal(err)
	}
	for i := range mostWaiting + 1 {
		commit(appendBytes(appendPath([]byte{byte(opSet)}, []string{"a", fmt.Sprint(i)}), []byte("1")))
	}
	if n := m.Status().Waiting; n > 2 {
		t.Errorf("%d changes wait", n)
	}
	for range 10 { // of what is written again and again one waits
		commit(appendBytes(appendPath([]byte{byte(opSet)}, []string{"a", "x"}), []byte("1")))
	}
	if n := m.Status().Waiting; n > 3 {
		t.Errorf("%d changes wait, of one path", n)
	}
	list, _ := m.HandOut("page")
	var all []heard
	if err := json.Unmarshal(list, &all); err != nil || len(all) != 1 || len(all[0].Path) != 1 {
		t.Errorf("%.80s %v", list, err)
	}
	// Nothing is left of a page that has ended, and nobody is told of it.
	m.Drop(page)
	if len(m.watch.of)+len(m.watch.pages)+len(m.watch.lists) != 0 {
		t.Errorf("of a page that has ended there is %+v", m.watch.of)
	}
}

func TestOneChangeOfAListIsToldAsSuch(t *testing.T) {
	m, from := New(0, Limits{}), &Source{}
	page := Ref{Page, "page"}
	if err := m.Open("u:anna", page); err != nil {
		t.Fatal(err)
	}
	list := func(kind op, head []byte, items ...string) []byte {
		out := append(appendPath([]byte{byte(kind)}, []string{"a", "l"}), head...)
		out = append(out, byte(len(items)), 0, 0, 0)
		for _, item := range items {
			out = appendBytes(out, []byte(item))
		}
		return out
	}
	replace := func(at, removed byte, items ...string) []byte {
		return list(opReplace, []byte{at, 0, 0, 0, removed, 0, 0, 0}, items...)
	}
	for _, c := range []struct {
		records [][]byte
		want    string
	}{
		{[][]byte{shareRecord(`{"path":["a"]}`), list(opList, nil, "1")}, `[{"path":["a"],"value":{"l":[1]}}]`},
		{[][]byte{list(opAppend, nil, "2"), list(opAppend, nil, "3")}, `[{"path":["a","l"],"items":[2,3]}]`},
		{[][]byte{replace(1, 1)}, `[{"path":["a","l"],"at":1,"removed":1,"items":[]}]`},
		{[][]byte{replace(0, 1, "7", "8"), list(opAppend, nil, "9")}, `[{"path":["a","l"],"value":[7,8,3,9]}]`},
		{[][]byte{list(opAppend, nil, "1"), replace(0, 4)}, `[{"path":["a","l"],"value":[1]}]`},
		{[][]byte{list(opList, nil), list(opAppend, nil, "5")}, `[{"path":["a","l"],"value":[5]}]`},
		{[][]byte{list(opAppend, nil, "6"), appendPath([]byte{byte(opDelete)}, []string{"a", "l"})}, `[{"path":["a","l"],"delete":true}]`},
	} {
		if err := m.Apply(from, frame(from.last+1, "u:anna", m.Generation("u:anna"), page, len(c.records), slices.Concat(c.records...))); err != nil {
			t.Fatal(err)
		}
		if told := m.Tell(m.Queued()); len(told) != 1 || string(told[0].Data) != c.want {
			t.Errorf("told %s, want %s", told[0].Data, c.want)
		}
	}
}

func TestOfAStoreThatHasEndedNothingIsSharedAnyMore(t *testing.T) {
	m, from := New(0, Limits{}), &Source{}
	guest, page := Ref{User, "g:k"}, Ref{Page, "page"}
	for _, ref := range []Ref{guest, page} {
		if err := m.Open("g:k", ref); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(user string, ref Ref, records ...[]byte) {
		t.Helper()
		if err := m.Apply(from, frame(from.last+1, user, m.Generation(user), ref, len(records), slices.Concat(records...))); err != nil {
			t.Fatal(err)
		}
	}
	commit("g:k", guest, set("a", "1"))
	commit("g:k", page, shareRecord(`{"path":["a"],"kind":3,"id":"g:k"}`))
	m.Tell(m.Queued())
	// The guest has logged in: the page is the user's, and its own store is dropped.
	m.Relabel("g:k", "u:anna", func(ref Ref) bool { return ref.Kind == Page })
	if told := m.Tell(m.Queued()); len(told) != 1 || string(told[0].Data) != `[{"path":["a"],"store":"user","delete":true}]` {
		t.Errorf("at its end the client was told %v", told)
	}
	if st := m.Status(); st.Sharing != 1 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// What is another user's no client has, whatever its page says: neither a value, nor a change of a
// list, nor because a page of that user has asked for the value before.
func TestOfAnotherUsersStoreAClientHearsNothing(t *testing.T) {
	m, from := New(0, Limits{}), &Source{}
	secrets, hers, his := Ref{User, "u:eve"}, Ref{Page, "hers"}, Ref{Page, "his"}
	commit := func(user string, ref Ref, records ...[]byte) {
		t.Helper()
		if err := m.Open(user, ref); err != nil && !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
		if err := m.Apply(from, frame(from.last+1, user, m.Generation(user), ref, len(records), slices.Concat(records...))); err != nil {
			t.Fatal(err)
		}
	}
	one := func(kind op) []byte {
		return appendBytes(append(appendPath([]byte{byte(kind)}, []string{"a"}), 1, 0, 0, 0), []byte(`"secret"`))
	}
	shared := shareRecord(`{"path":["a"],"kind":3,"id":"u:eve"}`)
	for _, order := range [][2]Ref{{hers, his}, {his, hers}} {
		commit("u:eve", secrets, one(opList))
		for _, ref := range order {
			commit(map[Ref]string{hers: "u:eve", his: "u:adam"}[ref], ref, shared)
		}
		commit("u:eve", secrets, one(opAppend))
		commit("u:eve", secrets, set("a", `"secret"`))
		heard := 0
		for _, one := range m.Tell(m.Queued()) {
			has := bytes.Contains(one.Data, []byte("secret"))
			if has && one.Page == his.ID {
				t.Errorf("the client of another user was told %s", one.Data)
			}
			if has && one.Page == hers.ID {
				heard++
			}
		}
		if heard != 3 {
			t.Errorf("her own client was told %d times", heard)
		}
		for _, ref := range []Ref{secrets, hers, his} {
			m.Drop(ref)
		}
		m.Tell(m.Queued())
	}
}
