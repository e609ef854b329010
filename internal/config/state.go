package config

// State bounds what the stores of users, connections and pages may hold, and says what they
// survive.
type State struct {
	Durability string   `toml:"durability" default:"worker" enum:"worker,host" doc:"What state survives at any moment. worker: the end of its worker; a graceful stop of the server keeps it, too. host: also the end of the server itself (kill -9, out of memory): all that a client may be told is written to a log in server.state_dir first; while that cannot be written, answers are 503 durability_unavailable."`
	Fsync      string   `toml:"fsync" default:"interval" enum:"always,interval" doc:"With durability = \"host\": when the log is brought to the disk, so that it survives the end of the machine, too. interval: every fsync_interval; always: before an answer leaves, many answers at once."`
	Interval   Duration `toml:"fsync_interval" default:"1s" min:"50ms" doc:"How much of the log the end of the machine (not of the server) may cost."`
	Page       Size     `toml:"page" default:"1MiB" min:"16KiB" doc:"Largest store of a page; a write that would take it above is refused."`
	Connection Size     `toml:"connection" default:"4MiB" min:"16KiB" doc:"Largest store of a connection."`
	User       Size     `toml:"user" default:"16MiB" min:"16KiB" doc:"Largest store of a user."`
	Worker     Size     `toml:"worker" default:"512MiB" min:"1MiB" doc:"All stores together that a worker may hold; a write that would take them above is refused. From 80 % of it on (an object of a page counts as 4KiB), objects and stores of pages that nobody uses now are forgotten there, and made anew when they are used; where that is not enough, items end as for total."`
	Total      Size     `toml:"total" default:"1GiB" min:"1MiB" doc:"All stores together. From 80 % of it on, pages end, until it is 75 %: those whose client never came, then those whose client has been away longest, connected ones last; a client whose page was ended is told and opens another one."`
}

// checkState refuses limits of which one could never be reached, and a clock that anybody
// could move.
func (r *resolver) checkState() {
	if r.Admin.Clock && r.getenv("GUADO_TEST") != "1" {
		r.wrong("admin.clock", "admin.clock", true, "is for tests alone, whose environment has GUADO_TEST=1: whoever moves the clock ends users, connections and pages")
	}
	s := &r.State
	if s.Worker > s.Total {
		r.wrong("state.worker", "state.worker", s.Worker.String(), "must be at most state.total (%s): a worker holds no more than there is", s.Total)
	}
	for name, size := range map[string]Size{"page": s.Page, "connection": s.Connection, "user": s.User} {
		if size > s.Worker {
			r.wrong("state."+name, "state."+name, size.String(), "must be at most state.worker (%s), which holds it with all others", s.Worker)
		}
	}
}
