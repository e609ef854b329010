package observe

import "github.com/prometheus/client_golang/prometheus"

// Stores are those of users, connections and pages, and the host's copy of them. What they
// cost is of [Registry], beside their limits.
type Stores struct {
	Users, Stores        int
	Commits, Stale, Late uint64
	Moves                uint64
	Compared, Different  uint64 // from phase 6 on
	Sharing, Waiting     int    // pages with their clients; changes that wait for them
}

// Global is the store that all workers share.
type Global struct {
	Leaves, Ending, Replicas int
	Bytes, Limit             int64
	Updates, Expired         uint64
}

var (
	storesDesc  = desc("stores", "Stores of users, connections and pages.")
	ownersDesc  = desc("stores_users", "Users, guests included, who have stores.")
	commitsDesc = desc("state_commits_total", "Commits of stores: applied; stale, which were refused, for their user had moved; late, parts for items that had ended.", "result")
	movesDesc   = desc("state_moves_total", "Users whose stores went to another worker.")

	comparedDesc = desc("state_compared_total", "Stores of workers that were compared with the host's copy, from phase 6 on.", "result")
	sharingDesc  = desc("stores_sharing_pages", "Pages whose clients have something of stores.")
	unaskedDesc  = desc("stores_waiting_changes", "Changes of it that wait until clients ask for them.")

	globalLeavesDesc   = desc("global_leaves", "Values of the global store; ending: those that end by themselves.", "which")
	globalBytesDesc    = desc("global_bytes", "What the global store costs in the account.")
	globalLimitDesc    = desc("global_limit_bytes", "And what it may cost.")
	globalUpdatesDesc  = desc("global_updates_total", "Changes of the global store, which all workers are sent.")
	globalExpiredDesc  = desc("global_expired_total", "Values of the global store whose time was over.")
	globalReplicasDesc = desc("global_replicas", "Workers that have a copy of the global store.")
)

func describeStores(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		storesDesc, ownersDesc, commitsDesc, movesDesc, comparedDesc, sharingDesc, unaskedDesc,
		globalLeavesDesc, globalBytesDesc, globalLimitDesc, globalUpdatesDesc, globalExpiredDesc, globalReplicasDesc,
	} {
		to <- d
	}
}

// collect gives nothing below phase 4.
func (s *Stores) collect(to chan<- prometheus.Metric) {
	if s == nil {
		return
	}
	to <- gauge(storesDesc, float64(s.Stores))
	to <- gauge(ownersDesc, float64(s.Users))
	to <- counter(commitsDesc, s.Commits, "applied")
	to <- counter(commitsDesc, s.Stale, "stale")
	to <- counter(commitsDesc, s.Late, "late")
	to <- counter(movesDesc, s.Moves)
	to <- counter(comparedDesc, s.Compared-min(s.Compared, s.Different), "same")
	to <- counter(comparedDesc, s.Different, "different")
	to <- gauge(sharingDesc, float64(s.Sharing))
	to <- gauge(unaskedDesc, float64(s.Waiting))
}

// collect gives nothing below phase 4.
func (g *Global) collect(to chan<- prometheus.Metric) {
	if g == nil {
		return
	}
	to <- gauge(globalLeavesDesc, float64(g.Leaves), "all")
	to <- gauge(globalLeavesDesc, float64(g.Ending), "ending")
	to <- gauge(globalBytesDesc, float64(g.Bytes))
	to <- gauge(globalLimitDesc, float64(g.Limit))
	to <- counter(globalUpdatesDesc, g.Updates)
	to <- counter(globalExpiredDesc, g.Expired)
	to <- gauge(globalReplicasDesc, float64(g.Replicas))
}
