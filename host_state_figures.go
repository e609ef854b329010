package guado

import "github.com/guado-server/guado/internal/observe"

// storesFigures are the stores at the moment of a scrape.
func (h *host) storesFigures() *observe.Stores {
	st := h.storesStatus()
	if st == nil {
		return nil
	}
	return &observe.Stores{
		Users: st.Users, Stores: st.Stores, Commits: st.Commits, Stale: st.Stale, Late: st.Late, Moves: st.Moves,
		Compared: st.Compared, Different: st.Differences,
		Sharing: st.Sharing, Waiting: st.Waiting,
	}
}

// globalFigures are the global store, likewise.
func (h *host) globalFigures() *observe.Global {
	st := h.globalStatus()
	if st == nil {
		return nil
	}
	return &observe.Global{
		Leaves: st.Leaves, Ending: st.Ending, Replicas: st.Replicas,
		Bytes: st.Bytes, Limit: st.Limit, Updates: st.Updates, Expired: st.Expired,
	}
}
