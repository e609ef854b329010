package observe

import "github.com/prometheus/client_golang/prometheus"

// Identity is who the clients are.
type Identity struct {
	Guests, LoggedIn, Users int // connections of the one and the other kind; users
	Made, Logins, Logouts   uint64
	Ended                   map[string]uint64 // connections, by reason
	Refused                 map[string]uint64 // cookies, by reason
}

var (
	browsersDesc = desc("identity_connections", "Browsers that are known.", "kind")
	usersDesc    = desc("identity_users", "Who are logged in.")
	madeDesc     = desc("identity_connections_made_total", "Connections that were made.")
	goneDesc     = desc("identity_connections_ended_total", "Connections that were forgotten, by reason.", "reason")
	loginsDesc   = desc("identity_logins_total", "Logins and logouts.", "what")
	cookiesDesc  = desc("identity_cookies_refused_total", "Cookies that opened nothing, by reason.", "reason")
)

func describeIdentity(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{browsersDesc, usersDesc, madeDesc, goneDesc, loginsDesc, cookiesDesc} {
		to <- d
	}
}

// collect gives nothing in phase 0.
func (i *Identity) collect(to chan<- prometheus.Metric) {
	if i == nil {
		return
	}
	to <- gauge(browsersDesc, float64(i.Guests), "guest")
	to <- gauge(browsersDesc, float64(i.LoggedIn), "user")
	to <- gauge(usersDesc, float64(i.Users))
	to <- counter(madeDesc, i.Made)
	for reason, n := range i.Ended {
		to <- counter(goneDesc, n, reason)
	}
	to <- counter(loginsDesc, i.Logins, "login")
	to <- counter(loginsDesc, i.Logouts, "logout")
	for reason, n := range i.Refused {
		to <- counter(cookiesDesc, n, reason)
	}
}
