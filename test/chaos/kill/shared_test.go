package kill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Two of three tabs have their log, that of their user and a register, which they write: one is
// told over its session, the other asks with Guado-Ack, and loses answers. Whatever dies, a log
// only grows at the client, by what the store has, and in the end both are the same.

// overs says by its number how a tab is told of what is shared; empty: nothing is.
var overs = []string{"session", "requests", ""}

// overOf says so of the next tab. Where a guarantee is switched off, others find it: waiting for
// what never comes would take long.
func (w *world) overOf() string {
	if w.setting.host+w.setting.worker != "" {
		return ""
	}
	return overs[len(w.tabs)%len(overs)]
}

// ofTab is the register that the client of a page writes.
const ofTab = "mine"

// copied is what a client has of stores.
type copied struct {
	over string

	mu      sync.Mutex                // guards the rest
	stores  map[string]map[string]any // by their names for clients
	stale   bool                      // changes are of something that the client does not have
	number  uint64                    // of the last change that was asked for
	taken   int                       // changes
	wrote   int                       // the last value
	problem error                     // the first
}

// change is one of a path that is shared: protocol/store.md, section 7.
type change struct {
	Path        []string
	Store       string
	Value       any
	Delete      bool
	At, Removed *int
	Items       []any
}

func newCopied(over string) *copied {
	return &copied{over: over, stores: map[string]map[string]any{"": {}, "user": {}}}
}

// missed: the session has a new stream, and all of it will come.
func (c *copied) missed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = c.over == "session"
}

// take puts changes in place; all: of what was before nothing is left.
func (c *copied) take(text json.RawMessage, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problem != nil || c.stale && !all {
		return
	}
	var list []change
	err := json.Unmarshal(text, &list)
	before := c.logs()
	if all {
		c.stale, c.stores = false, map[string]map[string]any{"": {}, "user": {}}
	}
	for i := 0; err == nil && i < len(list); i++ {
		err = list[i].do(c.stores[list[i].Store])
		c.taken++
	}
	if err == nil {
		err = grown(before, c.logs())
	}
	if err != nil {
		c.problem = fmt.Errorf("behind %v came %.2000s: %w", before, text, err)
	}
}

func (o *change) do(at map[string]any) error {
	if at == nil || len(o.Path) == 0 {
		return fmt.Errorf("nothing of %q is shared", o.Store)
	}
	for _, key := range o.Path[:len(o.Path)-1] {
		below, is := at[key].(map[string]any)
		if !is {
			below = map[string]any{}
			at[key] = below
		}
		at = below
	}
	key := o.Path[len(o.Path)-1]
	switch {
	case o.Items != nil:
		list, is := at[key].([]any)
		from, removed := len(list), 0
		if o.At != nil && o.Removed != nil {
			from, removed = *o.At, *o.Removed
		}
		if !is || from+removed > len(list) {
			return fmt.Errorf("there is no such part of %v", at[key])
		}
		at[key] = slices.Concat(list[:from], o.Items, list[from+removed:])
	case o.Delete:
		delete(at, key)
	default:
		at[key] = o.Value
	}
	return nil
}

// at gives what a client has at a path of two keys.
func (c *copied) at(store, first, second string) any {
	below, _ := c.stores[store][first].(map[string]any) // nothing is in none
	return below[second]
}

// logs are those that the client has, and its register, as a log of one.
func (c *copied) logs() map[string][]int {
	logs := map[string][]int{"page": ints(c.at("", "log", "log")), ofOnce: ints(c.at("user", "log", "once"))}
	if n, is := c.at("", "register", ofTab).(float64); is {
		logs[ofTab] = []int{int(n)}
	}
	return logs
}

func ints(list any) (all []int) {
	values, _ := list.([]any) // nothing was written yet
	for _, n := range values {
		all = append(all, int(n.(float64)))
	}
	return all
}

// grown holds what is there now against what was: nothing of it is taken back.
func grown(before, now map[string][]int) error {
	for name, was := range before {
		is := now[name]
		switch {
		case name == ofTab:
			if len(is) == 0 || is[0] < was[0] {
				return fmt.Errorf("it was %v, and is %v", was, is)
			}
		case len(is) < len(was) || !slices.Equal(is[:len(was)], was):
			return fmt.Errorf("the log of %s is %v", name, is)
		}
	}
	return nil
}

// share has the page of a tab share with its client what is in the log.
func (t *tab) share() error {
	if t.copy.over == "" {
		return nil
	}
	var done int
	return t.browser.post("/", t.page, do{Share: t.copy.over}, &done)
}

// shared does what its client does with what is shared.
func (t *tab) shared() error {
	if t.copy.over == "" {
		return nil
	}
	err := t.write()
	if t.copy.over == "requests" && (err == nil || errors.Is(err, errUnknown)) {
		err = t.changes(rand.IntN(3) == 0)
	}
	if errors.Is(err, errUnknown) {
		t.world.unknown.Add(1)
		return nil
	}
	return err
}

// write sets the register of the tab, as a client. What the other side of a session is told, is
// there before it is told that it is done.
func (t *tab) write() error {
	c := t.copy
	c.wrote++
	changes := fmt.Sprintf(`[{"path":"register.%s","value":%d}]`, ofTab, c.wrote)
	var nothing any
	if c.over == "requests" {
		return t.browser.post("/_guado/changes", t.page, map[string]any{"changes": json.RawMessage(changes)}, &nothing)
	}
	err := t.socket.sends("w", []byte(changes), &nothing, 0, 1)
	if errors.Is(err, errSession) {
		if err := t.world.broken(t.socket.host, err); !errors.Is(err, errUnknown) {
			return err
		}
		return t.again()
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.logs()[ofTab]; c.problem == nil && !slices.Equal(n, []int{c.wrote}) {
		c.problem = fmt.Errorf("%d was written, and the client has %v", c.wrote, n)
	}
	return nil
}

// changes asks for what has changed; lost: the answer does not come.
func (t *tab) changes(lost bool) error {
	url, host := t.world.where()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url+"/_guado/changes", http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Guado-Page", t.page)
	r.Header.Set("Guado-Ack", strconv.FormatUint(t.copy.number, 10))
	var got struct {
		Changes json.RawMessage
		Number  uint64
	}
	if err := t.browser.send(r, host, &got); err != nil || lost {
		return err
	}
	t.copy.number = got.Number
	t.copy.take(got.Changes, false)
	return nil
}

// checkShared holds what the client has in the end against what is there.
func (t *tab) checkShared(log []int) error {
	c := t.copy
	if c.over == "" {
		return nil
	}
	want := map[string][]int{"page": log}
	var once []int
	if err := t.browser.post("/", t.page, do{Of: ofOnce, Key: "once", All: true}, &once); err != nil {
		return err
	}
	want[ofOnce] = once
	var mine int
	if err := t.browser.post("/", t.page, do{Of: "page", Key: ofTab}, &mine); err != nil {
		return err
	}
	if mine != 0 {
		want[ofTab] = []int{mine}
	}
	if c.over == "requests" { // what was not acknowledged comes again
		if err := t.changes(true); err != nil {
			return err
		}
	}
	var now map[string][]int
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err := t.hears(); err != nil {
			return err
		}
		c.mu.Lock()
		problem := c.problem
		now = c.logs()
		c.mu.Unlock()
		if problem != nil {
			return fmt.Errorf("what is shared with client %d (page %s) over %s: %w", t.number, t.page, c.over, problem)
		}
		if maps.EqualFunc(now, want, slices.Equal) {
			return nil
		}
	}
	return fmt.Errorf("client %d (page %s) has over %s %v, and there is %v", t.number, t.page, c.over, now, want)
}

// hears asks again, or connects again where the host was killed.
func (t *tab) hears() error {
	if t.copy.over == "requests" {
		return t.changes(false)
	}
	select {
	case <-t.socket.done:
		if err := t.again(); !errors.Is(err, errUnknown) {
			return err
		}
	default:
	}
	return nil
}
