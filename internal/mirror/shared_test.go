package mirror

import (
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
	Own     uint64
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

// drawRecord makes a change, which need not be possible.
func drawRecord(t *rapid.T) []byte {
	path := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "$c"}), 1, 3).Draw(t, "path")
	value := []byte(rapid.SampledFrom([]string{"1", `"x"`, `{"$decimal":"2"}`}).Draw(t, "value"))
	kind := rapid.SampledFrom([]op{opSet, opSet, opClear, opDelete, opList, opAppend, opReplace}).Draw(t, "op")
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

func TestWhatClientsAreToldIsWhatTheStoreHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, from := New(0, Limits{}), &Source{}
		page, asks := Ref{Page, "page"}, Ref{Page, "asks"}
		for _, ref := range []Ref{page, asks, {User, "u:anna"}} {
			if err := m.Open("u:anna", ref); err != nil {
				t.Fatal(err)
			}
		}
		commit := func(ref Ref, records ...[]byte) bool {
			err := m.Apply(from, frame(from.last+1, "u:anna", m.Generation("u:anna"), ref, len(records), slices.Concat(records...)))
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return err == nil
		}
		session, polls := client{}, client{}
		listen := func() {
			told := m.Tell(m.Queued())
			for _, one := range told {
				if one.All {
					session.clear()
				}
				session.take(t, one.Data)
			}
		}
		commit(page, shareRecord(`{"path":["a"]}`), shareRecord(`{"path":["a","b"],"kind":3,"id":"u:anna"}`))
		commit(asks, shareRecord(`{"path":["a"],"kind":2,"id":"nobody","over":"requests"}`), shareRecord(`{"path":["a"],"kind":3,"id":"u:anna","over":"requests"}`))
		commit(page, shareRecord(`{"path":["a","b"],"kind":3,"id":"u:anna","off":true}`))
		acked := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "do") {
			case 0:
				listen()
				session.same(t, m, page, "a")
			case 1: // an answer that comes
				if err := m.Acknowledge("asks", acked); err != nil {
					t.Fatal(err)
				}
				list, number := m.HandOut("asks", true)
				polls.take(t, list)
				polls.same(t, m, Ref{User, "u:anna"}, "a")
				if acked = number; m.Acknowledge("asks", number+1) == nil {
					t.Fatal("a number was taken that was never handed out")
				}
			case 2: // and one that is lost
				m.HandOut("asks", true)
			default:
				ref := rapid.SampledFrom([]Ref{page, {User, "u:anna"}}).Draw(t, "store")
				before := m.Queued()
				records := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 5).Draw(t, "records")
				if !commit(ref, records...) && m.Queued() != before {
					t.Fatal("a commit that failed was told")
				}
			}
		}
		listen()
		session.same(t, m, page, "a")
		list, number := m.HandOut("asks", true)
		polls.take(t, list)
		polls.same(t, m, Ref{User, "u:anna"}, "a")
		if err := m.Acknowledge("asks", number); err != nil {
			t.Fatal(err)
		}
		if list, _ := m.HandOut("asks", false); string(list) != "[]" {
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
	m.HandOut("page", false)
	for i := range mostWaiting + 1 {
		commit(appendBytes(appendPath([]byte{byte(opSet)}, []string{"a", fmt.Sprint(i)}), []byte("1")))
	}
	if n := m.Waiting(); n > 2 {
		t.Errorf("%d changes wait", n)
	}
	list, _ := m.HandOut("page", false)
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
