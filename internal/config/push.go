package config

// Push bounds the sessions of pages and says who may have them, from phase 3 on.
type Push struct {
	Tail      Size     `toml:"tail" default:"256KiB" min:"4KiB" doc:"What a page has been sent and its client has not acknowledged is kept up to this size, so that a client that comes back misses nothing."`
	TailAge   Duration `toml:"tail_age" default:"2m" min:"1s" doc:"And for this long."`
	Waiting   Size     `toml:"waiting" default:"1MiB" min:"64KiB" doc:"What may wait for a client that does not read; over it the connection is closed, and the client comes back."`
	Message   Size     `toml:"message" default:"1MiB" min:"1KiB" doc:"Longest message, in either direction."`
	Beat      Duration `toml:"beat" default:"20s" min:"1s" doc:"After so long a silence a sign of life is sent; a client that gives none for twice as long is taken for gone."`
	Away      Duration `toml:"away" default:"30m" min:"10s" doc:"How long a page lives after its client has gone."`
	Unclaimed Duration `toml:"unclaimed" default:"60s" min:"1s" doc:"How long a page waits for its client to come the first time."`
	NewPages  int      `toml:"new_pages" default:"10000" min:"1" doc:"Pages that may wait for their client to come the first time; over it the oldest end."`
	UserPages int      `toml:"user_pages" default:"200" min:"1" doc:"Pages of one user, or of one browser of a guest; over it the one whose client has been away longest ends."`
	Pages     int      `toml:"pages" default:"100000" min:"1" doc:"Pages of all users; over it some end: those whose client never came, then those whose client has been away longest."`
	Window    Duration `toml:"window" default:"1s" min:"1ms" doc:"Clients that lost their connection come back spread over this time, or a longer one where there are many."`
	Rate      int      `toml:"rate" default:"500" min:"1" doc:"Clients that come back in a second; the window is made so long that there are no more."`
	Calls     int      `toml:"calls" default:"64" min:"1" doc:"Requests of one client that wait for their replies; more are refused as busy."`
	Replies   Size     `toml:"replies" default:"64KiB" min:"1KiB" doc:"Replies of one page that are kept for a client that asks again."`
	Origins   []string `toml:"origins" doc:"Whose pages may use push, besides those of the very host that is asked: \"https://example.org\", \"https://*.example.org\" for subdomains. Browsers send the cookie of a connection to pages of the same site alone."`
}

func (r *resolver) checkPush() {
	p := &r.Push
	r.checkOrigins("push.origins", "push.origins", p.Origins)
	for _, text := range p.Origins {
		if text == "*" || text == "null" {
			r.wrong("push.origins", "push.origins", text, "may not be among them: a page that uses push speaks as the user whose cookie its browser sends; name the origins, as \"https://example.org\" or \"https://*.example.org\"")
		}
	}
	if p.Message.Bytes() > p.Waiting.Bytes() {
		r.wrong("push.waiting", "push.waiting", p.Waiting.String(), "must be at least push.message (%s): a message that is longer could never reach a client", p.Message)
	}
}
