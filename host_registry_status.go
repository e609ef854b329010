package guado

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/registry"
)

// RegistryStatus is the index of users, connections and pages.
type RegistryStatus = registry.Status

// Ended is the end of an item of the index.
type Ended = registry.End

// UserStatus is a user who is known, and what belongs to him.
type UserStatus struct {
	identity.User
	Pages int   `json:"pages"`
	Bytes int64 `json:"bytes"` // of its store, in the account
}

// ConnectionStatus is one browser of a user, and what belongs to it.
type ConnectionStatus struct {
	identity.Connection
	Pages int   `json:"pages"`
	Bytes int64 `json:"bytes"` // of its store, in the account
}

func (h *host) registryStatus() *RegistryStatus {
	if !h.pushes() {
		return nil
	}
	st := h.registry.Status()
	return &st
}

func (h *host) userStatus(u identity.User) UserStatus {
	return UserStatus{u, h.pages.Count(u.Name, ""), h.registry.Weight(item.User, u.Name)}
}

func (h *host) connectionStatus(c identity.Connection) ConnectionStatus {
	return ConnectionStatus{c, h.pages.Count("", c.ID), h.registry.Weight(item.Connection, c.ID)}
}

// users lists who are known, and connections from where.
func (h *host) users() []UserStatus {
	list := []UserStatus{}
	if h.pushes() {
		for _, u := range h.identity.Users() {
			list = append(list, h.userStatus(u))
		}
	}
	return list
}

func (h *host) connections() []ConnectionStatus {
	list := []ConnectionStatus{}
	if h.pushes() {
		for _, c := range h.identity.Connections() {
			list = append(list, h.connectionStatus(c))
		}
	}
	return list
}

// registryReadings are what can be asked of the index, beside the pages.
func (h *host) registryReadings() []admin.Reading {
	return []admin.Reading{
		{Path: "users", Read: func(admin.Call) (any, error) {
			return map[string]any{"users": h.users()}, nil
		}},
		{Path: "users/{user}", Read: func(c admin.Call) (any, error) {
			if h.pushes() {
				if u, ok := h.identity.FindUser(c.Name("user")); ok {
					return h.userStatus(u), nil
				}
			}
			return nil, h.notFound(item.User, c.Name("user"))
		}},
		{Path: "connections", Read: func(admin.Call) (any, error) {
			return map[string]any{"connections": h.connections()}, nil
		}},
		{Path: "connections/{connection}", Read: func(c admin.Call) (any, error) {
			if h.pushes() {
				if k, ok := h.identity.Find(c.Name("connection")); ok {
					return h.connectionStatus(k), nil
				}
			}
			return nil, h.notFound(item.Connection, c.Name("connection"))
		}},
		{Path: "ended", Read: func(admin.Call) (any, error) {
			return map[string]any{"ended": h.endings()}, nil
		}},
	}
}

// endings are the last ends of items, the newest first.
func (h *host) endings() []Ended {
	list := []Ended{}
	if h.pushes() {
		for kind := item.Page; kind <= item.User; kind++ {
			list = append(list, h.registry.Endings(kind)...)
		}
	}
	slices.SortStableFunc(list, func(a, b Ended) int { return b.At.Compare(a.At) })
	return list
}

// notFound says that there is no such item, and why, if it ended lately.
func (h *host) notFound(kind item.Kind, id string) error {
	refusal := admin.NotFound(kind.String(), id)
	if h.pushes() {
		if e, ok := h.registry.EndOf(kind, id); ok {
			refusal.Message += fmt.Sprintf(": it ended %s ago (%s)", time.Since(e.At).Round(time.Second), e.Why)
			refusal.Detail = e
		}
	}
	return refusal
}

// registryActions are what operators can do to items.
func (h *host) registryActions() []admin.Action {
	return []admin.Action{
		{Path: "pages/{page}/end", Do: h.askEnd(item.Page, "page")},
		{Path: "connections/{connection}/end", Do: h.askEnd(item.Connection, "connection")},
		{Path: "users/{user}/end", Do: h.askEnd(item.User, "user")},
		{Path: "clock", Do: h.askClock},
	}
}

// askEnd ends an item and what belongs to it: a user is logged out everywhere.
func (h *host) askEnd(kind item.Kind, name string) func(context.Context, admin.Call) (any, error) {
	return func(_ context.Context, c admin.Call) (any, error) {
		if h.pushes() {
			if n := h.registry.Drop(kind, c.Name(name), false); n > 0 {
				if err := h.kept.wait(); err != nil {
					return nil, &admin.Refusal{Status: http.StatusServiceUnavailable, Code: "durability_unavailable", Message: fmt.Sprintf("they have ended, and may be there again behind a crash: %v", err)}
				}
				return map[string]int{"ended": n}, nil
			}
		}
		return nil, h.notFound(kind, c.Name(name))
	}
}

// askClock moves the time by which items live. Only tests may.
func (h *host) askClock(_ context.Context, c admin.Call) (any, error) {
	var how struct {
		Seconds float64 `json:"seconds"`
	}
	if err := c.Body(&how); err != nil {
		return nil, err
	}
	if !h.config.Admin.Clock {
		return nil, &admin.Refusal{Status: http.StatusForbidden, Code: "no_test_clock", Message: "the clock of this server cannot be moved: that is for tests (admin.clock)"}
	}
	const most = 366 * 24 * 3600
	if !(how.Seconds >= 0 && how.Seconds <= most) {
		return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: "the clock goes forward, by a year at most"}
	}
	h.clock.Advance(time.Duration(how.Seconds * float64(time.Second)))
	return map[string]float64{"seconds": h.clock.Now().Seconds()}, nil
}

// registryFigures is the index at the moment of a scrape.
func (h *host) registryFigures() *observe.Registry {
	if !h.pushes() {
		return nil
	}
	st := h.registry.Status()
	out := &observe.Registry{
		Items: map[string]int{}, Ended: map[string]map[string]uint64{},
		Bytes: st.State.Bytes, Limit: st.State.Limit, WorkerBytes: st.State.WorkerBytes, WorkerLimit: st.State.WorkerLimit,
		Rested: st.State.Rested, Freed: st.State.Freed,
	}
	for kind, k := range map[item.Kind]registry.KindStatus{item.Page: st.Pages, item.Connection: st.Connections, item.User: st.Users} {
		out.Items[kind.String()] = k.Now
		ended := map[string]uint64{}
		for why, n := range k.Ended {
			ended[string(why)] = n
		}
		out.Ended[kind.String()] = ended
	}
	return out
}
