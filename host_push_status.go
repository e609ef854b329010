package guado

import (
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/bus"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/pages"
)

// PushStatus is the sessions of all pages.
type PushStatus = pages.Status

// PageStatus is a page, its session, and the events that it hears.
type PageStatus struct {
	pages.PageStatus
	Bytes  int64                 `json:"bytes"`            // of its store, in the account
	Events *bus.SubscriberStatus `json:"events,omitempty"` // nil: it has subscribed nothing
}

func (h *host) pushStatus() *PushStatus {
	if !h.pushes() {
		return nil
	}
	st := h.pages.Status()
	return &st
}

// pageList lists the pages: connected ones first, and of those the ones that spoke last.
func (h *host) pageList() []PageStatus {
	if !h.pushes() {
		return []PageStatus{}
	}
	list := h.pages.List()
	all := make([]PageStatus, 0, len(list))
	for _, p := range list {
		all = append(all, h.withEvents(p))
	}
	slices.SortFunc(all, func(a, b PageStatus) int {
		switch {
		case a.Connected != b.Connected && a.Connected:
			return -1
		case a.Connected != b.Connected:
			return 1
		case a.IdleMillis != b.IdleMillis:
			return int(a.IdleMillis - b.IdleMillis)
		}
		return strings.Compare(a.Page, b.Page)
	})
	return all
}

func (h *host) pageStatus(c admin.Call) (any, error) {
	if h.pushes() {
		if st, ok := h.pages.One(c.Name("page")); ok {
			return h.withEvents(st), nil
		}
	}
	return nil, h.notFound(item.Page, c.Name("page"))
}

func (h *host) withEvents(p pages.PageStatus) PageStatus {
	return PageStatus{p, h.registry.Weight(item.Page, p.Page), h.events.Of(p.Page)}
}

// pushFigures is push at the moment of a scrape.
func (h *host) pushFigures() *observe.Push {
	if !h.pushes() {
		return nil
	}
	st := h.pages.Status()
	return &observe.Push{
		Pages: st.Pages, Connected: st.Connected, Users: st.Users, TailBytes: st.TailBytes,
		Opened: st.Opened, Resumed: st.Resumed, Ended: st.Ended, Received: st.Received, Trimmed: st.Trimmed, Requests: st.Requests,
		Anew: map[string]uint64{"tail": st.Anew.Tail, "epoch": st.Anew.Epoch, "client": st.Anew.Client},
		Cut:  map[string]uint64{"slow": st.Slow, "silent": st.Silent, "lost": st.Lost, "refused": st.Refused},
		Turns: map[string]uint64{
			"done": st.Turns - min(st.Turns, st.Failed+st.LostTurns), "failed": st.Failed, "lost": st.LostTurns, "again": st.Again, "busy": st.Busy,
		},
	}
}

// Pages lists the pages that a server knows; nil when Run does not run.
func (s *Server) Pages() []PageStatus {
	if h := s.running(); h != nil {
		return h.pageList()
	}
	return nil
}
