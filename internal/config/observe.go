package config

import (
	"net/url"
	"strings"
)

// Metrics is what is counted, and who may ask for it besides the admin socket.
type Metrics struct {
	Enabled bool   `toml:"enabled" default:"true" doc:"Count exchanges, for the admin socket and the listener below."`
	Listen  string `toml:"listen" doc:"A listener of its own for /metrics, /livez and /readyz: \"HOST:PORT\", \"PORT\" (on 127.0.0.1) or \"unix:PATH\". There is no password on it. Empty: none."`
}

// Health is how load balancers and orchestrators see the host.
type Health struct {
	Live       string   `toml:"live" doc:"Path on the main listeners that answers 200 while the process runs, in front of every mount: \"/livez\". Empty: none; the listener of [metrics] and the admin socket have /livez always."`
	Ready      string   `toml:"ready" doc:"Path on the main listeners that answers 200 when each group has a ready worker and the host is not stopping, else 503: \"/readyz\", or \"/up\" as some deploy tools want it. Empty: none."`
	DrainDelay Duration `toml:"drain_delay" default:"0" min:"0" doc:"How long a stop goes on serving as before after it has become not ready, so that load balancers see it before the listeners close."`
}

// Trace is where traces of exchanges go.
type Trace struct {
	Endpoint string `toml:"endpoint" doc:"URL of an OpenTelemetry collector that takes OTLP over HTTP: \"http://127.0.0.1:4318\". OTEL_EXPORTER_OTLP_HEADERS and the like are heeded. Empty: no traces."`
	OneIn    int    `toml:"one_in" default:"1" min:"1" doc:"Record one exchange in this many; those that a trusted proxy records are recorded always."`
	Service  string `toml:"service" default:"guado" doc:"The service.name of the host's spans."`
}

func (r *resolver) observe() {
	if text := r.Metrics.Listen; text != "" {
		if strings.HasPrefix(text, ":") {
			text = "127.0.0.1" + text // figures are for this machine unless somebody says otherwise
		}
		l, err := ParseListen(text, "9464")
		switch {
		case err != nil:
			r.wrong("metrics.listen", "metrics.listen", r.Metrics.Listen, "%s", err)
		case l.Network != "tcp" && l.Network != "unix":
			r.wrong("metrics.listen", "metrics.listen", r.Metrics.Listen, "must be HOST:PORT or unix:PATH")
		default:
			r.Metrics.Listen = l.absolute(r.Dir).String()
		}
	}
	for path, value := range map[string]string{"health.live": r.Health.Live, "health.ready": r.Health.Ready} {
		if value != "" && (!strings.HasPrefix(value, "/") || strings.ContainsAny(value, "?#% ")) {
			r.wrong(path, path, value, "must be a path, as \"/readyz\"")
		}
	}
	if r.Health.Live != "" && r.Health.Live == r.Health.Ready {
		r.wrong("health.ready", "health.ready", r.Health.Ready, "is the path of health.live, too")
	}
	if text := r.Trace.Endpoint; text != "" {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			r.wrong("trace.endpoint", "trace.endpoint", text, "must be the URL of a collector, as \"http://127.0.0.1:4318\"")
		}
	}
}
