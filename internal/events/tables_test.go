package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/guado-server/guado/internal/bus"
)

// tableRig is a page that has subscribed tables.
type tableRig struct {
	*rig
	tables *Tables
	page   string
	limit  TableLimits
}

// inTables runs a body with a clock of its own.
func inTables(t *testing.T, limit TableLimits, body func(t *testing.T, r *tableRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &tableRig{rig: newRig(t), limit: limit}
		r.tables = r.NewTables(func() TableLimits { return r.limit })
		defer r.tables.Close()
		r.page = r.open("", "")
		r.subscribe(r.page, "dbevent.>")
		body(t, r)
	})
}

// change is a transaction of one change: "update 7 8 invoice".
func (r *tableRig) change(words string, rows ...string) {
	r.t.Helper()
	list := strings.Fields(words)
	c := TableChange{Table: list[len(list)-1], Action: Action(list[0])}
	for _, key := range list[1 : len(list)-1] {
		c.Keys = append(c.Keys, json.RawMessage(key))
	}
	for _, row := range rows {
		c.Rows = append(c.Rows, json.RawMessage(row))
	}
	if err := r.tables.Changed([]TableChange{c}); err != nil {
		r.t.Fatal(err)
	}
}

// told is what the page's client has been sent.
func (r *tableRig) told() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sent[r.page])
}

func (r *tableRig) want(events ...string) {
	r.t.Helper()
	got := r.told()
	for i := range events {
		events[i] = `{"topic":"dbevent.` + events[i]
	}
	if !slices.Equal(got, events) {
		r.t.Errorf("the page was told\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(events, "\n"))
	}
}

func TestTheFirstChangeIsToldAtOnceAndThoseBehindItTogether(t *testing.T) {
	inTables(t, TableLimits{Interval: 50 * time.Millisecond, Changes: 100}, func(_ *testing.T, r *tableRig) {
		r.change("insert 1 invoice", `{"total":3}`)
		first := `invoice","data":{"table":"invoice","changes":[{"action":"insert","key":1,"row":{"total":3}}]}}`
		r.want(first)
		r.change("update 1 invoice", `{"total":4}`)
		r.change("insert 2 3 invoice")
		r.change("update 9 order") // another table waits for nobody
		r.change("update 1 invoice", `{"total":5}`)
		r.change("delete 2 invoice")
		other := `order","data":{"table":"order","changes":[{"action":"update","key":9}]}}`
		r.want(first, other)
		time.Sleep(51 * time.Millisecond)
		second := `invoice","data":{"table":"invoice","changes":[{"action":"insert","key":3},{"action":"update","key":1,"row":{"total":5}},{"action":"delete","key":2}]}}`
		r.want(first, other, second)
		r.change("insert 2 invoice") // within the interval behind the second
		time.Sleep(200 * time.Millisecond)
		third := `invoice","data":{"table":"invoice","changes":[{"action":"insert","key":2}]}}`
		r.want(first, other, second, third)
		r.change("delete 3 invoice") // after an interval of silence: at once
		fourth := `invoice","data":{"table":"invoice","changes":[{"action":"delete","key":3}]}}`
		r.want(first, other, second, third, fourth)
		time.Sleep(time.Second)
		if st := r.tables.Status(); st.Tables != 0 || st.Changes != 9 || st.Published != 5 || st.Merged != 2 {
			r.t.Errorf("%+v", st)
		}
	})
}

func TestWhatIsTooMuchForOneEventSaysLess(t *testing.T) {
	inTables(t, TableLimits{Interval: time.Second, Changes: 3}, func(_ *testing.T, r *tableRig) {
		large := `"` + strings.Repeat("x", r.opts.Pages.Hub().Options().Message/2) + `"`
		r.change("update 1 2 a", large, large)
		r.change("update 1 2 3 4 b")
		r.change("update c")
		wide := strings.Repeat("y", r.opts.Pages.Hub().Options().Message/2)
		r.change(fmt.Sprintf(`insert "1%s" "2%s" d`, wide, wide))
		r.want(`a","data":{"table":"a","changes":[{"action":"update","key":1},{"action":"update","key":2}]}}`,
			`b","data":{"table":"b","all":true,"changes":[]}}`, `c","data":{"table":"c","all":true,"changes":[]}}`,
			`d","data":{"table":"d","all":true,"changes":[]}}`)
		if st := r.tables.Status(); st.RowsLeft != 2 || st.Collapse != 1 {
			r.t.Errorf("%+v", st)
		}
	})
}

func TestATransactionIsOneEventOfEachTable(t *testing.T) {
	inTables(t, TableLimits{Changes: 100}, func(_ *testing.T, r *tableRig) {
		err := r.tables.Changed([]TableChange{
			{Table: "invoice", Action: Insert, Keys: []json.RawMessage{[]byte("1")}, Reason: "import", Page: "P1"},
			{Table: "row.of.invoice", Keys: []json.RawMessage{[]byte("[1,1]"), []byte("[1,2]")}},
			{Table: "invoice", Action: Delete, Keys: []json.RawMessage{[]byte("1")}},
		})
		if err != nil {
			r.t.Fatal(err)
		}
		r.want(`invoice","data":{"table":"invoice","changes":[{"action":"delete","key":1}]}}`,
			`row.of.invoice","data":{"table":"row.of.invoice","changes":[{"action":"update","key":[1,1]},{"action":"update","key":[1,2]}]}}`)
		for _, bad := range []TableChange{
			{Table: "a..b"}, {Table: "*"}, {Table: ""}, {Table: "a", Action: "drop"},
			{Table: "a", Keys: []json.RawMessage{[]byte("1")}, Rows: []json.RawMessage{}},
		} {
			if err := r.tables.Changed([]TableChange{{Table: "fine"}, bad}); !errors.Is(err, ErrBadChange) {
				r.t.Errorf("%+v: %v", bad, err)
			}
		}
		if n := len(r.told()); n != 2 {
			r.t.Errorf("%d events: one was published of what was refused", n)
		}
	})
}

func TestAStopPublishesWhatIsCollected(t *testing.T) {
	inTables(t, TableLimits{Interval: time.Hour, Changes: 100}, func(_ *testing.T, r *tableRig) {
		r.change("insert 1 a")
		r.change("insert 2 a")
		r.tables.Flush()
		two := []string{`a","data":{"table":"a","changes":[{"action":"insert","key":1}]}}`, `a","data":{"table":"a","changes":[{"action":"insert","key":2}]}}`}
		r.want(slices.Clone(two)...)
		r.change("insert 3 a") // nobody waits any more
		r.want(append(two, `a","data":{"table":"a","changes":[{"action":"insert","key":3}]}}`)...)
		r.tables.Close()
		if err := r.tables.Changed([]TableChange{{Table: "a"}}); !errors.Is(err, bus.ErrClosed) {
			r.t.Error(err)
		}
	})
}

func TestTheTablesThatAreWatchedAtOneTimeAreBounded(t *testing.T) {
	inTables(t, TableLimits{Interval: time.Hour, Changes: 100}, func(_ *testing.T, r *tableRig) {
		for n := range mostTables {
			r.change(fmt.Sprintf("insert 1 t%d", n))
		}
		if err := r.tables.Changed([]TableChange{{Table: "one.more"}}); !errors.Is(err, ErrTooManyTables) {
			r.t.Error(err)
		}
		r.change("insert 2 t7")
	})
}

// TestWhoFollowsTheEventsEndsWithTheSameRows as the database, whatever was merged.
func TestWhoFollowsTheEventsEndsWithTheSameRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		database, shown := map[string]string{}, map[string]string{}
		what := &news{most: rapid.SampledFrom([]int{0, 4}).Draw(t, "most")}
		follow := func() {
			text, _, all := what.text("t", 1<<20)
			var event struct {
				Changes []struct {
					Action   Action
					Key, Row json.RawMessage
				}
			}
			if err := json.Unmarshal(text, &event); err != nil {
				t.Fatal(err)
			}
			if all { // reads again
				clear(shown)
				for k, v := range database {
					shown[k] = v
				}
			}
			for _, c := range event.Changes {
				_, had := shown[string(c.Key)]
				switch {
				case c.Action == Delete:
					delete(shown, string(c.Key))
				case c.Action == Update && !had:
					t.Fatalf("an update of %s, which is not there", c.Key)
				default:
					shown[string(c.Key)] = string(c.Row)
				}
			}
			if fmt.Sprint(shown) != fmt.Sprint(database) {
				t.Fatalf("shown %v, there are %v", shown, database)
			}
			what = &news{most: what.most}
		}
		for n := range rapid.IntRange(1, 300).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "key"))
			c := TableChange{Table: "t", Action: Update, Keys: []json.RawMessage{[]byte(key)}, Rows: []json.RawMessage{fmt.Append(nil, n)}}
			_, there := database[key]
			switch {
			case !there:
				c.Action = Insert
			case rapid.Bool().Draw(t, "delete"):
				c.Action, c.Rows = Delete, nil
			}
			if delete(database, key); c.Action != Delete {
				database[key] = fmt.Sprint(n)
			}
			what.add(&c)
			if rapid.IntRange(0, 20).Draw(t, "event") == 0 {
				follow()
			}
		}
		follow()
	})
}
