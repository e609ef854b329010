package config

// State bounds what the stores of users, connections and pages may hold.
type State struct {
	Page       Size `toml:"page" default:"1MiB" min:"16KiB" doc:"Largest store of a page; a write that would take it above is refused."`
	Connection Size `toml:"connection" default:"4MiB" min:"16KiB" doc:"Largest store of a connection."`
	User       Size `toml:"user" default:"16MiB" min:"16KiB" doc:"Largest store of a user."`
	Worker     Size `toml:"worker" default:"512MiB" min:"1MiB" doc:"All stores together that a worker may hold; a write that would take them above is refused. From 80 % of it on (an object of a page counts as 4KiB), objects of pages that nobody uses now are forgotten, and made anew when they are used; where that is not enough, items end as for total."`
	Total      Size `toml:"total" default:"1GiB" min:"1MiB" doc:"All stores together. From 80 % of it on, pages end, until it is 75 %: those whose client never came, then those whose client has been away longest, connected ones last; a client whose page was ended is told and opens another one."`
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
