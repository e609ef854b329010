package guado

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/durable"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/replay"
)

// Kinds of items in the log of state. Numbers are never used again for something else.
const (
	kindMeta       = 1 // what is known of the log itself
	kindConnection = 2
	kindUser       = 3
	kindPage       = 4 // with its session
	kindGlobal     = 5 // a leaf of the global store, or a dict that no leaf below stands for
	kindReplay     = 6 // a request that was done, with its answer
	kindReply      = 7 // what is kept of a page's messages with what they have changed
	kindStore      = 16
)

// storeKey is where a store is in the log.
func storeKey(ref mirror.Ref) durable.Key {
	return durable.Key{Kind: kindStore + byte(ref.Kind), ID: ref.ID}
}

// KeptStatus is how the log of state is.
type KeptStatus = durable.Status

// kept is what survives the host itself.
type kept struct {
	log    atomic.Pointer[durable.Log] // nil: nothing is kept but by a graceful stop
	found  *durable.Recovered          // what a log of before has, until it is in use; nil: there was none
	live   atomic.Bool                 // changes are told to the log
	begun  atomic.Bool                 // and it keeps them: nothing is in files
	ended  sync.Once
	left   []durable.Key         // of stores that nobody has in this phase
	leaves bool                  // there were some
	about  atomic.Pointer[about] // nil: nothing is known
}

// about is what the log knows of itself.
type about struct {
	Issued  uint64    `json:"issued"`           // no generation is higher, in this start
	Stopped time.Time `json:"stopped,omitzero"` // the server was told to stop then, and has
}

// known is what the log knew of itself.
func (k *kept) known() *about {
	if a := k.about.Load(); a != nil {
		return a
	}
	return &about{}
}

// keeps reports whether the log has all, so that a stop need not write files.
func (k *kept) keeps() bool { return k.begun.Load() }

func (k *kept) touch(kind byte, id string) {
	if log := k.log.Load(); log != nil && k.live.Load() {
		log.Touch(kind, id)
	}
}

func (k *kept) position() uint64 {
	if log := k.log.Load(); log != nil {
		return log.Position()
	}
	return 0
}

func (k *kept) has(position uint64) bool {
	log := k.log.Load()
	return log == nil || log.Keeps(position)
}

// wait returns when all that was done so far is kept. Until the log has begun, in a step from a
// phase without one, nothing is.
func (k *kept) wait() error {
	if log := k.log.Load(); log != nil && k.begun.Load() {
		return log.Wait()
	}
	return nil
}

func (k *kept) status() *KeptStatus {
	log := k.log.Load()
	if log == nil {
		return nil
	}
	st := log.Status()
	return &st
}

// figures are those of the metrics; nil: there is no log.
func (k *kept) figures() *observe.Kept {
	st := k.status()
	if st == nil {
		return nil
	}
	return &observe.Kept{
		Bytes: st.Bytes, Changes: st.Changes, Kept: st.Kept, Writes: st.Writes, Syncs: st.Syncs, Anew: st.Anew,
		Fails: st.Failed, Damaged: st.Damaged, Works: st.Error == "",
	}
}

func (k *kept) close() (err error) {
	log := k.log.Load()
	if log == nil {
		return nil
	}
	k.ended.Do(func() {
		k.live.Store(false)
		if err = log.Close(); err != nil {
			err = fmt.Errorf("keep state in server.state_dir: %w", err)
		}
	})
	if !k.begun.Load() {
		return nil // what was there is there still
	}
	return err
}

// openKept reads the log of before, and begins one where the configuration wants it.
func (h *host) openKept() error {
	dir := h.keptDir()
	if h.now() != h {
		// A step of a server that runs: whoever was known before is forgotten.
		if err := errors.Join(os.RemoveAll(dir), h.forgetFiles()); err != nil {
			return err
		}
	}
	found, err := durable.Recover(dir, h.log)
	var other *durable.VersionError
	if errors.As(err, &other) {
		aside := fmt.Sprintf("%s.version-%d", dir, other.Found)
		h.log.Error("state of before is put aside, and all begins anew", "folder", aside, "error", err)
		err = os.Rename(dir, aside)
	}
	if err != nil {
		return err
	}
	h.kept.found = found
	h.kept.live.Store(found == nil)
	if found != nil {
		a := keptAbout(found)
		h.kept.about.Store(&a)
	}
	s := &h.config.State
	if s.Durability != "host" {
		return nil
	}
	log, err := durable.Open(durable.Options{
		Dir: dir, Always: s.Fsync == "always", Interval: s.Interval.Std(), Log: h.log, Kinds: map[byte]durable.Kind{},
	}, found)
	if err != nil {
		return err
	}
	h.kept.log.Store(log)
	return nil
}

func (h *host) keptDir() string { return filepath.Join(h.config.Server.StateDir, "log") }

func keptAbout(found *durable.Recovered) (a about) {
	if i := found.Items[durable.Key{Kind: kindMeta, ID: "about"}]; i != nil {
		// Without it the stop is not known to have been one, and generations begin anew,
		// which nobody is there to have seen.
		_ = json.Unmarshal(i.Base, &a)
	}
	return a
}

// keepKinds says how what is kept gets into the log.
func (h *host) keepKinds() {
	log := h.kept.log.Load()
	if log == nil {
		return
	}
	kinds := map[byte]durable.Kind{
		kindMeta: {Describe: func(string) ([]byte, bool) {
			data, err := json.Marshal(h.kept.known())
			return data, err == nil
		}},
		kindConnection: {Describe: func(id string) ([]byte, bool) { return h.identity.Describe(item.Connection, id) }},
		kindUser:       {Describe: func(id string) ([]byte, bool) { return h.identity.Describe(item.User, id) }},
		kindPage:       {Describe: func(id string) ([]byte, bool) { return h.pages.Describe(id, h.topics.of) }},
	}
	kinds[kindReply] = durable.Kind{Rewrite: func(page string) {
		change := durable.Change{Key: durable.Key{Kind: kindReply, ID: page}, Op: durable.Put, Data: h.pages.Settled(page)}
		if change.Data == nil {
			change.Op = durable.Drop
		}
		log.Append(change)
	}}
	kinds[kindReplay] = durable.Kind{Rewrite: h.replay.Rewrite}
	if h.kept.found == nil {
		h.replay.Journal(journalReplay(log))
	}
	if h.global != nil {
		kinds[kindGlobal] = durable.Kind{Describe: h.global.Describe}
	}
	if h.stores != nil {
		for _, kind := range []mirror.Kind{mirror.Page, mirror.Connection, mirror.User} {
			kinds[kindStore+byte(kind)] = durable.Kind{Rewrite: func(id string) { h.stores.mirror.Rewrite(mirror.Ref{Kind: kind, ID: id}) }}
		}
		h.stores.mirror.Issue(h.kept.known().Issued)
		if h.kept.found == nil { // what is restored from a log is in it
			h.stores.mirror.Journal(journal(log))
		}
	}
	log.Kinds(kinds)
}

// journal has the log told of what changes in stores.
func journal(log *durable.Log) func([]mirror.Changed, any) {
	ops := [...]durable.Op{mirror.Whole: durable.Put, mirror.More: durable.Add, mirror.Ended: durable.Drop}
	var room []durable.Change // the mirror's lock is held whenever it is used
	return func(changed []mirror.Changed, also any) {
		room = room[:0]
		switch with := also.(type) {
		case replay.Kept:
			room = append(room, durable.Change{Key: durable.Key{Kind: kindReplay, ID: with.ID}, Op: durable.Put, Data: with.Data})
		case pages.Kept:
			room = append(room, durable.Change{Key: durable.Key{Kind: kindReply, ID: with.Page}, Op: durable.Put, Data: with.Data})
		}
		for _, c := range changed {
			room = append(room, durable.Change{Key: storeKey(c.Ref), Op: ops[c.What], Data: c.Records})
		}
		log.Append(room...)
	}
}

// beginKept keeps what was restored, and from then on all that changes.
func (h *host) beginKept() error {
	k := &h.kept
	found := k.found
	k.found = nil
	h.dropFiles(found)
	log := k.log.Load()
	if log == nil {
		if found != nil {
			return os.RemoveAll(h.keptDir()) // a graceful stop will write files
		}
		return nil
	}
	h.replay.Journal(journalReplay(log))
	if h.stores != nil {
		h.stores.mirror.Journal(journal(log))
	}
	k.about.Store(&about{Issued: k.known().Issued + 1<<32})
	k.live.Store(true)
	log.Touch(kindMeta, "about")
	if err := log.Begin(); err != nil {
		return err
	}
	k.begun.Store(true)
	return nil
}

// stateFiles are what a graceful stop leaves where there is no log.
var stateFiles = []string{"connections", "pages", "push", "mirror", "global", "answers"}

// forgetFiles removes what a graceful stop would leave.
func (h *host) forgetFiles() (err error) {
	for _, name := range stateFiles {
		if e := os.Remove(filepath.Join(h.config.Server.StateDir, name)); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// dropFiles removes what a graceful stop had left before the log was begun: it is older.
func (h *host) dropFiles(found *durable.Recovered) {
	if found == nil {
		return
	}
	for _, name := range stateFiles {
		err := os.Remove(filepath.Join(h.config.Server.StateDir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			h.log.Error("a file of before the log cannot be removed; it is older than the log", "error", err)
		}
	}
}

// keepAll is what a graceful stop does: nothing changes any more.
func (h *host) keepAll() error {
	h.pages.Freeze()
	log := h.kept.log.Load()
	for _, s := range h.hub.Sessions() {
		log.Touch(kindPage, s.Page())
	}
	for _, c := range h.identity.Connections() {
		log.Touch(kindConnection, c.ID)
	}
	for _, u := range h.identity.Users() {
		log.Touch(kindUser, u.Name)
	}
	if h.global != nil {
		log.Touch(kindGlobal, "") // the number of its last update
	}
	h.kept.about.Store(&about{h.kept.known().Issued, time.Now().UTC()})
	log.Touch(kindMeta, "about")
	if err := log.Wait(); err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	return nil
}

// touchedItem tells the log of connections and users.
func (h *host) touchedItem() func(kind item.Kind, id string) {
	if h.config.State.Durability != "host" {
		return nil
	}
	return func(kind item.Kind, id string) {
		if kind == item.User {
			h.kept.touch(kindUser, id)
			return
		}
		h.kept.touch(kindConnection, id)
	}
}

func (h *host) touchedPage() func(page string) {
	if h.config.State.Durability != "host" {
		return nil
	}
	return func(page string) { h.kept.touch(kindPage, page) }
}

func (h *host) touchedGlobal() func(id string) {
	if h.config.State.Durability != "host" {
		return nil
	}
	return func(id string) { h.kept.touch(kindGlobal, id) }
}

// gateEffects holds up what workers tell the world until what it rests on is kept. It comes
// before those who answer these verbs.
func (h *host) gateEffects() {
	if h.config.State.Durability != "host" {
		return
	}
	for _, verb := range []string{"push", "push.wait", "publish", "dbevent", "page.end"} {
		h.calls.Handle(verb, func(context.Context, calls.Caller, []byte) (any, error) {
			if err := h.kept.wait(); err != nil {
				return nil, unkept(err)
			}
			if h.keeps() { // a push comes behind what the same commit has changed
				h.stores.shares.settle()
			}
			return nil, nil //nolint:nilnil // whoever answers the verb comes behind
		})
	}
}

// unkept is what callers are told whose call rests on what cannot be kept.
func unkept(err error) error {
	return calls.Errorf(http.StatusServiceUnavailable, "durability_unavailable", "%v", err)
}

// gateAnswers gives what holds up the answers of workers likewise; nil: nothing does.
func (h *host) gateAnswers() func() error {
	if h.config.State.Durability != "host" {
		return nil
	}
	return h.kept.wait
}

// sync returns when all that was done so far is on the disk. Where there is no log, memory alone
// has it.
func (k *kept) sync() error {
	if log := k.log.Load(); log != nil && k.begun.Load() {
		return log.Sync()
	}
	return nil
}
