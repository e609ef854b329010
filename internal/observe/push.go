package observe

import "github.com/prometheus/client_golang/prometheus"

// Push is the sessions of pages, and what their messages became.
type Push struct {
	Pages, Connected, Users, TailBytes int
	Opened                             uint64            // connections of clients
	Resumed                            uint64            // of them: those that had missed nothing
	Anew                               map[string]uint64 // and those that had, by reason
	Cut                                map[string]uint64 // connections, by why they ended
	Ended                              uint64
	Received, Trimmed                  uint64
	Turns                              map[string]uint64 // by how they ended
	Requests                           uint64
}

var (
	pagesDesc        = desc("push_pages", "Pages.", "state")
	pageUsersDesc    = desc("push_users", "Users who have pages.")
	tailDesc         = desc("push_tail_bytes", "What is kept for clients until they have acknowledged it.")
	pushOpenedDesc   = desc("push_connections_total", "Connections of clients to their pages, ever.")
	pushResumedDesc  = desc("push_resumed_total", "Connections of clients that came back and had missed nothing.")
	pushAnewDesc     = desc("push_not_resumed_total", "Connections of clients that had to begin with a snapshot.", "why")
	pushCutDesc      = desc("push_connections_cut_total", "Connections of clients that ended without a close of theirs.", "reason")
	pagesEndedDesc   = desc("push_pages_ended_total", "Pages that came to an end.")
	pushReceivedDesc = desc("push_messages_received_total", "Messages of clients.")
	pushTrimmedDesc  = desc("push_frames_trimmed_total", "Messages to clients that were kept for too long or were too many, before they were acknowledged.")
	turnsDesc        = desc("push_turns_total", "Turns of page classes, by what became of them.", "result")
	pageRequestsDesc = desc("push_requests_total", "Messages of clients that were made requests of an application.")
	pushDescriptions = []*prometheus.Desc{
		pagesDesc, pageUsersDesc, tailDesc, pushOpenedDesc, pushResumedDesc, pushAnewDesc, pushCutDesc, pagesEndedDesc,
		pushReceivedDesc, pushTrimmedDesc, turnsDesc, pageRequestsDesc,
	}
)

func (p *Push) collect(to chan<- prometheus.Metric) {
	if p == nil {
		return
	}
	to <- gauge(pagesDesc, float64(p.Connected), "connected")
	to <- gauge(pagesDesc, float64(p.Pages-p.Connected), "away")
	to <- gauge(pageUsersDesc, float64(p.Users))
	to <- gauge(tailDesc, float64(p.TailBytes))
	to <- counter(pushOpenedDesc, p.Opened)
	to <- counter(pushResumedDesc, p.Resumed)
	to <- counter(pagesEndedDesc, p.Ended)
	to <- counter(pushReceivedDesc, p.Received)
	to <- counter(pushTrimmedDesc, p.Trimmed)
	to <- counter(pageRequestsDesc, p.Requests)
	for label, list := range map[*prometheus.Desc]map[string]uint64{pushAnewDesc: p.Anew, pushCutDesc: p.Cut, turnsDesc: p.Turns} {
		for value, n := range list {
			to <- counter(label, n, value)
		}
	}
}
