package phase

import (
	"fmt"
	"slices"
	"strings"
)

// State is how a criterion stands.
type State string

// The states.
const (
	OK    State = "ok"
	Fails State = "fails"
	Later State = "later" // only the phase itself can show it
)

// Result is one criterion of a phase, as it stands now.
type Result struct {
	Phase int    `json:"phase"`
	Name  string `json:"name"`
	What  string `json:"what"`
	How   string `json:"how"` // measured, attested
	State State  `json:"state"`
	Note  string `json:"note,omitempty"` // what was measured, or what to do
}

// criterion of a phase. Without of it is attested: no machine can tell.
type criterion struct {
	name, what string
	hint       string // for who has to attest it, or may
	first      bool   // to be attested before the phase is taken
	of         func(f *Facts) (State, string)
	may        bool                  // where the measure fails, somebody may know better
	needless   func(f *Facts) string // why nobody has to attest it; empty: somebody has to
}

// attested is how a criterion stands of which somebody knows, or has to.
func (c *criterion) attested(f *Facts, target int, said bool) (State, string) {
	if c.needless != nil {
		if why := c.needless(f); why != "" && f.Phase < target {
			return Later, why
		} else if why != "" {
			return OK, why
		}
	}
	switch {
	case said:
		return OK, ""
	case f.Phase < target && !c.first:
		return Later, c.asks()
	}
	return Fails, c.asks()
}

func (c *criterion) asks() string { return c.hint + "; then --attest " + c.name }

// Check looks at the criteria of a phase. Before the phase is taken, some can only be seen
// later. known is false where an attested name is none.
func Check(target int, f *Facts, attested []string) (all []Result, known bool) {
	known = true
	for _, name := range attested {
		known = known && slices.Contains(Names(target), name)
	}
	for i := range criteria[target] {
		c := &criteria[target][i]
		r := Result{Phase: target, Name: c.name, What: c.what, How: "measured"}
		said := slices.Contains(attested, c.name)
		if c.of == nil {
			r.How = "attested"
			r.State, r.Note = c.attested(f, target, said)
		} else if r.State, r.Note = c.of(f); r.State == Fails && c.may {
			if said {
				r.How, r.State = "attested", OK
			} else {
				r.Note += "; " + c.asks()
			}
		}
		all = append(all, r)
	}
	return all, known
}

// Names are the criteria of a phase that somebody has to attest, or may.
func Names(target int) (names []string) {
	for _, c := range criteria[target] {
		if c.of == nil || c.may {
			names = append(names, c.name)
		}
	}
	return names
}

// Good reports whether nothing fails.
func Good(all []Result) bool {
	return !slices.ContainsFunc(all, func(r Result) bool { return r.State == Fails })
}

// from shows a criterion only in the phase from which on it can be seen.
func from(phase int, of func(f *Facts) (State, string)) func(*Facts) (State, string) {
	return func(f *Facts) (State, string) {
		if f.Phase < phase {
			return Later, fmt.Sprintf("seen from phase %d on", phase)
		}
		return of(f)
	}
}

func when(ok bool, good, bad string) (State, string) {
	if ok {
		return OK, good
	}
	return Fails, bad
}

var criteria = map[int][]criterion{
	0: {
		{name: "entry", what: "the single entry point serves", of: func(f *Facts) (State, string) {
			return when(len(f.Missing) == 0, "every group has a worker", strings.Join(f.Missing, "; "))
		}},
		{name: "application", what: "the application works", may: true, hint: "look at the log, or send it requests that it answers", of: func(f *Facts) (State, string) {
			switch {
			case f.Apps == 0:
				return Fails, "no application is mounted"
			case f.Answered == 0:
				return Fails, "no request has been answered yet: send some"
			}
			if f.Wrong*100 > f.Answered {
				return Fails, fmt.Sprintf("%d requests answered, %d of them with 5xx", f.Answered, f.Wrong)
			}
			return when(f.Lost == 0 && f.Deaths == 0, fmt.Sprintf("%d requests answered, %d with 5xx, none lost", f.Answered, f.Wrong),
				fmt.Sprintf("%d workers have died since the start, and %d requests with them", f.Deaths, f.Lost))
		}},
		{name: "websocket", what: "WebSocket is available", of: func(f *Facts) (State, string) {
			return when(f.Apps > 0, fmt.Sprintf("%d opened", f.Sockets), "no application is mounted")
		}},
		{name: "executors", what: "executors are available", of: func(f *Facts) (State, string) {
			return OK, fmt.Sprintf("%d configured", f.Executors)
		}},
		{name: "tests", what: "the daemon is untouched and the application's own tests pass", hint: "run them against this server"},
	},
	3: {
		{name: "process", what: "one multi-threaded process works", of: func(f *Facts) (State, string) {
			switch {
			case f.StateGroup == "":
				return Fails, "say which group has the pages: state = true"
			case f.StateWorkers != 1:
				return Fails, fmt.Sprintf("group %s has %d workers: workers = 1", f.StateGroup, f.StateWorkers)
			}
			return when(f.StateThreads != 1, fmt.Sprintf("group %s", f.StateGroup),
				fmt.Sprintf("group %s has one thread: one request at a time; threads = 8", f.StateGroup))
		}},
		{name: "registry", what: "pages live in the registry", of: from(3, func(f *Facts) (State, string) {
			return when(f.Opened > 0, fmt.Sprintf("%d opened, %d now", f.Opened, f.Pages), "no page was opened yet: open one in a browser")
		})},
		{name: "push", what: "a push reaches a live page", may: true, hint: "where the site pushes nothing", of: from(3, func(f *Facts) (State, string) {
			return when(f.Heard > 0, fmt.Sprintf("%d pages have acknowledged one", f.Heard), "no client has acknowledged a push yet: guado push --page ID")
		})},
		{name: "ids", what: "the daemon and the format of ids are unchanged", hint: "look at ids of pages in the application"},
	},
	4: {
		{name: "register", what: "every register is in process", of: func(f *Facts) (State, string) {
			h := &f.Handed
			switch {
			case f.Phase < 4 && f.Register:
				return Later, "the step takes over all items of the register that the application names"
			case f.Phase < 4:
				return Later, "no register is named ([[app]] register), so nothing is taken over"
			case h.Known && (h.Error != "" || h.Differences > 0 || h.Refused > 0):
				return Fails, fmt.Sprintf("%d items were taken over, %d refused, %d different: %s", h.Items, h.Refused, h.Differences, h.Error)
			}
			return OK, fmt.Sprintf("%d items taken over", h.Items)
		}},
		{name: "daemon", what: "there is no state daemon", hint: "nothing asks it any more, and it is off or about to be"},
		{name: "shadow", what: "both registers have given the same answers", first: true, hint: "run the site with the old register in charge and ours beside it, or compare by hand", needless: func(f *Facts) string {
			if f.Register {
				return ""
			}
			return "no register is named ([[app]] register); where the application asks a daemon by itself, as GenroPy does, compare by its shadow"
		}},
		{name: "rebuild", what: "pages are ephemeral and quick to rebuild", of: from(4, func(f *Facts) (State, string) {
			return when(f.Commits > 0, fmt.Sprintf("%d commits", f.Commits), "nothing was written to a store yet: use the application")
		})},
		{name: "ipc", what: "no call to another process for state", of: from(4, func(f *Facts) (State, string) {
			return when(f.Stale == 0 || f.Stale*1000 < f.Commits, fmt.Sprintf("%d of %d commits refused", f.Stale, f.Commits),
				fmt.Sprintf("%d of %d commits were refused: users move between workers", f.Stale, f.Commits))
		})},
	},
	5: {
		{name: "resident", what: "pages stay between requests", of: from(5, func(f *Facts) (State, string) {
			if f.Classes == 0 {
				return OK, "the application declares no page class: it has stores, and no objects"
			}
			return when(f.Objects > 0, fmt.Sprintf("%d objects", f.Objects), "no page of a class is open: open one in a browser")
		})},
		{name: "same", what: "HTTP and WebSocket use the same object", of: from(5, func(f *Facts) (State, string) {
			if f.Classes == 0 {
				return OK, "no page class"
			}
			switch turns := fmt.Sprintf("%d turns", f.Used); {
			case f.Faults*100 > f.Used:
				return Fails, fmt.Sprintf("%s, and %d of them have failed: see the log", turns, f.Faults)
			case f.Met == 0:
				return Later, turns + ", but no object that both requests (on_request) and messages have reached"
			default:
				return OK, fmt.Sprintf("%s, %d failed; %d objects that both have reached", turns, f.Faults, f.Met)
			}
		})},
		{name: "life", what: "the registry owns the life cycle", of: from(3, func(f *Facts) (State, string) {
			return when(f.Busy*1000 <= max(f.Turns, 1), fmt.Sprintf("%d pages now", f.Pages), fmt.Sprintf("%d messages found a full mailbox", f.Busy))
		})},
	},
	6: {
		{name: "tests", what: "all existing and new tests pass", hint: "run them against this server"},
		{name: "verify", what: "stores and the host's copy are the same", of: from(6, func(f *Facts) (State, string) {
			if f.Differences > 0 {
				return Fails, fmt.Sprintf("%d differences in %d comparisons, as at %s", f.Differences, f.Compared, f.First)
			}
			return when(f.Compared > 0, fmt.Sprintf("%d compared", f.Compared), "nothing was compared yet: use the application")
		})},
		{name: "memory", what: "memory is stable under load", of: func(f *Facts) (State, string) {
			share := fmt.Sprintf("stores have %d MiB of %d, the worker %d", f.Bytes>>20, f.Limit>>20, f.Memory>>20)
			return when(f.Limit == 0 || f.Bytes*100 <= f.Limit*80, share, share+": above 80 %, pages make room")
		}},
		{name: "figures", what: "at least as fast as before", hint: "compare with the figures of the old stack"},
		{name: "limits", what: "limits are known: users, pages, requests a second", hint: "write down what was measured"},
	},
}
