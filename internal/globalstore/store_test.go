package globalstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func set(t *testing.T, s *Store, path, text string, ttl time.Duration) {
	t.Helper()
	if _, err := s.Set(dotted(path), value(t, text), ttl); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s *Store, path, text string) {
	t.Helper()
	got, _, ok := s.Get(dotted(path))
	if !ok {
		got = []byte("nothing")
	}
	if string(got) != text {
		t.Errorf("%s is %s, not %s", path, got, text)
	}
}

// TestEveryCopyIsTheStoreWhateverIsDone: the account, the leaves and the order are right, too.
func TestEveryCopyIsTheStoreWhateverIsDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := open(t, Limits{Store: 2000, Value: 400})
		first := &copyOf{}
		if err := s.Join(first); err != nil {
			t.Fatal(err)
		}
		keys := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "$x", "città"}), 1, 4)
		leaves := rapid.SampledFrom([]string{"1", `"t"`, "[1,2]", `{"$set":[]}`, `{"a":{"b":1,"c":[0]},"z":2}`, "{}", `"` + strings.Repeat("x", 300) + `"`})
		ttl := rapid.SampledFrom([]time.Duration{0, time.Hour})
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				_, err := s.Set(keys.Draw(t, "path"), value(t, leaves.Draw(t, "value")), ttl.Draw(t, "ttl"))
				if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrNotDict) {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				if _, _, err := s.Delete(keys.Draw(t, "path")); err != nil {
					t.Fatal(err)
				}
			},
			"clear": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "often") == 0 {
					if _, _, err := s.Delete(nil); err != nil {
						t.Fatal(err)
					}
				}
			},
			"add": func(t *rapid.T) {
				_, _, err := s.Add(keys.Draw(t, "path"), "7", ttl.Draw(t, "ttl"))
				if err != nil && !errors.Is(err, ErrNoCounter) && !errors.Is(err, ErrFull) && !errors.Is(err, ErrNotDict) {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				last := &copyOf{}
				if err := errors.Join(s.Join(last), last.apply(), first.apply()); err != nil {
					t.Fatal(err)
				}
				s.Leave(last)
				tree := s.root.tree()
				if !same(first.root, tree) || !same(last.root, tree) || last.number != s.number {
					t.Fatalf("the store is\n%v, the first copy\n%v, the last\n%v", tree, first.root, last.root)
				}
				cost, leaves, ends := int64(0), 0, 0
				for _, c := range s.root.below {
					cost += c.cost()
				}
				var walk func(*node)
				walk = func(n *node) {
					if !n.isDict() {
						leaves++
					}
					if n.end != nil {
						ends++
						if s.ends[n.end.index] != n.end || n.end.node != n {
							t.Fatal("an end is another node's")
						}
					}
					for key, c := range n.below {
						if c.up != n || c.key != key {
							t.Fatalf("%q hangs somewhere else", key)
						}
						walk(c)
					}
				}
				walk(s.root)
				if cost != s.bytes || leaves != s.leaves || ends != len(s.ends) || s.bytes > 2000 {
					t.Fatalf("%d bytes, %d leaves and %d ends are counted, there are %d, %d, %d", s.bytes, s.leaves, len(s.ends), cost, leaves, ends)
				}
			},
		})
	})
}

func TestWhatIsAboveALimitIsRefusedAndChangesNothing(t *testing.T) {
	s := open(t, Limits{Store: 200, Value: 100})
	set(t, s, "a.b", `"0123456789"`, 0) // 33 + 33 + 12
	for _, c := range []struct {
		path, value string
		want        error
	}{
		{"c", `"` + strings.Repeat("x", 99) + `"`, ErrTooBig},
		{"c", `"` + strings.Repeat("x", 90) + `"`, ErrFull},
		{"x.y.z.w", "1", ErrFull},
		{"a.b.c", "1", ErrNotDict},
	} {
		if _, err := s.Set(dotted(c.path), value(t, c.value), 0); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, not %v", c.path, err, c.want)
		}
	}
	if st := s.Status(); st.Bytes != 78 || st.Updates != 1 || st.Leaves != 1 {
		t.Errorf("%+v", st)
	}
	deep := Path(strings.Split(strings.Repeat("k.", 31)+"k", "."))
	if _, err := open(t, Limits{}).Set(deep, value(t, `{"one":"more"}`), 0); !errors.Is(err, ErrBadPath) {
		t.Error(err)
	}
	set(t, s, "a.b", `"0"`, 0) // smaller is never refused
	want(t, s, "a", `{"b":"0"}`)
}

func TestKeysEndAtTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Limits: func() Limits { return Limits{} }})
		defer s.Close()
		c := &copyOf{}
		if err := s.Join(c); err != nil {
			t.Fatal(err)
		}
		set(t, s, "minute", "1", time.Minute)
		set(t, s, "second.sub", "1", time.Second)
		set(t, s, "second.stays", "1", 0)
		set(t, s, "longer", "1", time.Second)
		set(t, s, "longer", "2", time.Hour) // a new one counts anew
		set(t, s, "for good", "1", time.Second)
		set(t, s, "for good", "2", 0)
		for range 2 {
			if _, _, err := s.Add(Path{"hits"}, "1", time.Minute); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
		}
		want(t, s, "second", `{"stays":1}`)
		want(t, s, "minute", "nothing")
		want(t, s, "hits", "nothing") // the second addition has not made it longer
		want(t, s, "longer", "2")
		want(t, s, "for good", "2")
		if err := c.apply(); err != nil || !same(c.root, s.root.tree()) {
			t.Errorf("%v: the copy has %v", err, c.root)
		}
		if st := s.Status(); st.Expired != 3 || st.Ending != 1 {
			t.Errorf("%+v", st)
		}
		s.Close()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		want(t, s, "longer", "2") // nothing happens any more
		if _, err := s.Set(Path{"a"}, value(t, "1"), 0); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestOfManyWhoCompareAndSetOneWinsEachTime(t *testing.T) {
	const who, times = 8, 200
	s := open(t, Limits{})
	set(t, s, "n", "0", 0)
	var wait sync.WaitGroup
	for range who {
		wait.Go(func() {
			for range times {
				for {
					text, _, _ := s.Get(Path{"n"})
					var n int
					if _, err := fmt.Sscan(string(text), &n); err != nil {
						t.Error(err)
						return
					}
					before, after := value(t, string(text)), value(t, fmt.Sprint(n+1))
					done, _, err := s.Compare(Path{"n"}, &before, &after, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if done {
						break
					}
				}
			}
		})
	}
	wait.Wait()
	want(t, s, "n", fmt.Sprint(who*times))
}

func TestCompareKnowsDictsAndWhatIsNotThere(t *testing.T) {
	s := open(t, Limits{})
	v := func(text string) *Value {
		if text == "" {
			return nil
		}
		v := value(t, text)
		return &v
	}
	for _, c := range []struct {
		before, after string
		done          bool
		then          string
	}{
		{"1", "2", false, "nothing"},
		{"", `{"a":1,"b":{"c":[2]}}`, true, `{"a":1,"b":{"c":[2]}}`},
		{"", "1", false, `{"a":1,"b":{"c":[2]}}`},
		{`{"b":{"c":[2]},"a":1.0}`, "1", false, `{"a":1,"b":{"c":[2]}}`},
		{`{"b":{"c":[2]},"a":1}`, "1.5", true, "1.5"},
		{"1.5", "", true, "nothing"},
		{"", "", true, "nothing"},
	} {
		done, _, err := s.Compare(Path{"k"}, v(c.before), v(c.after), 0)
		if err != nil || done != c.done {
			t.Errorf("%s → %s: %v %v", c.before, c.after, done, err)
		}
		want(t, s, "k", c.then)
	}
}

func TestCountersCountBeyondWhatAMachineWordHolds(t *testing.T) {
	s := open(t, Limits{})
	for _, c := range []struct{ by, sum string }{
		{"1", "1"}, {"-3", "-2"}, {"9007199254740993", "9007199254740991"}, {"1", `{"$int":"0x20000000000000"}`},
		{"-18014398509481984", `{"$int":"-0x20000000000000"}`}, {"1", "-9007199254740991"},
	} {
		sum, _, err := s.Add(Path{"n"}, c.by, 0)
		if err != nil || string(sum) != c.sum {
			t.Errorf("%s more is %s, not %s (%v)", c.by, sum, c.sum, err)
		}
	}
	for _, other := range []string{"1.5", `"1"`, "null", "true", "[]", "{}", `{"$int":"x"}`} {
		set(t, s, "n", other, 0)
		if _, _, err := s.Add(Path{"n"}, "1", 0); !errors.Is(err, ErrNoCounter) {
			t.Errorf("%s: %v", other, err)
		}
	}
	if _, _, err := s.Add(Path{"m"}, "many", 0); !errors.Is(err, ErrNoCounter) {
		t.Error(err)
	}
}

func TestACopyWhoseLinkHasEndedGetsNothingAnyMore(t *testing.T) {
	s := open(t, Limits{})
	gone, here := &copyOf{}, &copyOf{}
	if err := errors.Join(s.Join(gone), s.Join(here)); err != nil {
		t.Fatal(err)
	}
	gone.err = errOrder
	set(t, s, "a", "1", 0)
	if st := s.Status(); st.Replicas != 1 {
		t.Errorf("%d copies", st.Replicas)
	}
	if err := s.Join(gone); !errors.Is(err, errOrder) || s.Status().Replicas != 1 {
		t.Errorf("%v: one whose link has ended has joined", err)
	}
	s.Leave(here)
	if st := s.Status(); st.Replicas != 0 {
		t.Errorf("%d copies", st.Replicas)
	}
}
