package guado

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/phase"
	"github.com/guado-server/guado/internal/supervise"
)

// MigrationStatus is where a server is on its way between phases.
type MigrationStatus struct {
	Phase    int    `json:"phase"`
	Words    string `json:"words"`
	Next     *int   `json:"next,omitempty"`     // nil: it is the last one
	Before   *int   `json:"before,omitempty"`   // nil: it is the first one
	File     string `json:"file,omitempty"`     // where the phase stands; empty: in none
	Fixed    string `json:"fixed,omitempty"`    // what says the phase in place of the file
	Register bool   `json:"register"`           // there is one of before, to which items can go back
	Crossing bool   `json:"crossing,omitempty"` // a step is under way
	Stores   int    `json:"stores"`
	// Handed is what went from one register into the other last; nil: nothing yet.
	Handed *Handed `json:"handed,omitempty"`
}

// Criterion is one sign that a phase is a good one, as it stands now.
type Criterion = phase.Result

func (h *host) migrationStatus() *MigrationStatus {
	h = h.now()
	p := h.config.Server.Phase
	st := &MigrationStatus{
		Phase: p, Words: phase.Words(p), File: h.config.File, Register: h.hasRegister(),
		Crossing: h.phases.crossing.Load() != nil, Handed: h.phases.handed(),
	}
	if next, ok := phase.Next(p); ok {
		st.Next = &next
	}
	if before, ok := phase.Before(p); ok {
		st.Before = &before
	}
	if o := h.config.Origin("server.phase"); o.Kind != config.FromFile && o.Kind != config.FromDefault {
		st.Fixed = o.Name
	}
	if s := h.storesStatus(); s != nil {
		st.Stores = s.Stores
	}
	return st
}

// hasRegister reports whether the items of the server come out of a register of before.
func (h *host) hasRegister() bool {
	for i := range h.config.Apps {
		if h.config.Apps[i].Register != "" {
			return true
		}
	}
	return h.phases.giving()
}

func (h *host) migrateReading() admin.Reading {
	return admin.Reading{Path: "migrate", Read: func(admin.Call) (any, error) { return h.migrationStatus(), nil }}
}

func (h *host) migrateAction() admin.Action {
	return admin.Action{Path: "migrate/check", Do: h.askCheck}
}

// askCheck looks at the criteria of a phase.
func (h *host) askCheck(_ context.Context, c admin.Call) (any, error) {
	var ask struct {
		Phase  int      `json:"phase"`
		Attest []string `json:"attest"`
	}
	if err := c.Body(&ask); err != nil {
		return nil, err
	}
	if phase.Words(ask.Phase) == "" {
		return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_phase", Message: fmt.Sprintf("there is no phase %d: %s", ask.Phase, strings.Trim(fmt.Sprint(phase.Order), "[]"))}
	}
	all, known := phase.Check(ask.Phase, h.now().facts(), ask.Attest)
	if !known {
		return nil, &admin.Refusal{
			Status: http.StatusBadRequest, Code: "bad_attest",
			Message: fmt.Sprintf("%s: what can be attested of phase %d is: %s", strings.Join(ask.Attest, ", "), ask.Phase, strings.Join(phase.Names(ask.Phase), ", ")),
		}
	}
	return map[string]any{"phase": ask.Phase, "good": phase.Good(all), "criteria": all}, nil
}

// facts are what the criteria look at.
func (h *host) facts() *phase.Facts {
	f := &phase.Facts{
		Phase: h.config.Server.Phase, Missing: h.missing(), Executors: len(h.config.Executors),
		Sockets: h.websockets.Status().Opened, Register: h.hasRegister(),
	}
	for i := range h.config.Mounts {
		if m := &h.config.Mounts[i]; m.Kind() == config.MountApp {
			f.Apps++
			h.mountFacts(f, m.Name)
		}
	}
	f.StateGroup = h.config.StateGroup()
	if f.StateGroup == "" && len(h.config.Groups) == 1 {
		f.StateGroup = h.config.Groups[0].Name
	}
	for _, g := range h.groups {
		h.groupFacts(f, g)
	}
	if d := h.phases.handed(); d != nil {
		f.Handed = phase.Handed{Known: true, Items: d.Items, Refused: len(d.Refused), Differences: len(d.Differences), Error: d.Error}
	}
	if f.Phase >= phasePush {
		h.pageFacts(f)
	}
	if s := h.storesStatus(); s != nil {
		f.Commits, f.Stale, f.Bytes, f.Limit = s.Commits, s.Stale, s.Bytes, h.config.State.Total.Bytes()
		f.Compared, f.Differences = s.Compared, s.Differences
		if n := len(s.Differing); n > 0 {
			d := &s.Differing[n-1]
			f.First = fmt.Sprintf("%s %s: %s", d.Kind, d.ID, d.Path)
		}
	}
	return f
}

func (h *host) groupFacts(f *phase.Facts, g *group) {
	queue := g.pool.Status()
	if h.watching.metrics == nil { // else the mounts know
		f.Answered += queue.Counters.Exchanges
	}
	f.Lost += queue.Counters.Lost
	for _, w := range g.workers.Status().Workers {
		f.Deaths += w.Restarts[supervise.ByDeath]
		if g.config.Name != f.StateGroup {
			continue
		}
		f.Memory = max(f.Memory, w.Memory)
		f.StateWorkers++
		if f.StateThreads = g.config.Threads; w.Loop != "" {
			f.StateThreads = 0
		}
	}
}

// mountFacts counts what clients of an application were answered.
func (h *host) mountFacts(f *phase.Facts, name string) {
	if h.watching.metrics != nil {
		all, wrong := h.watching.metrics.Meter(name).Answers()
		f.Answered, f.Wrong = f.Answered+all, f.Wrong+wrong
	}
}

func (h *host) pageFacts(f *phase.Facts) {
	st := h.pages.Status()
	f.Pages, f.Turns, f.Busy = st.Pages, st.Turns, st.Busy
	var before pages.Status // phase 5
	if at := h.phases.resident.Load(); at != nil {
		before = *at
	}
	f.Used, f.Faults, f.Met = st.Turns-before.Turns, st.Faults-before.Faults, st.Met-before.Met
	f.Opened = uint64(st.Pages) + st.Ended
	f.Objects, f.Classes = h.pages.Objects(), h.pages.Classes()
	for _, p := range h.pages.List() {
		if p.Acked > 0 {
			f.Heard++
		}
	}
}
