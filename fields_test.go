package guado_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/guado-server/guado"
)

// What the configuration says of a client's fields and of the host's own reaches the edge.
func TestFieldsOfProxiesAndOfTheHostAreAsConfigured(t *testing.T) {
	for policy, want := range map[string]string{
		"auto": "203.0.113.1:0", "x-forwarded": "203.0.113.1:0", "forwarded": "203.0.113.2:0", "off": "",
	} {
		t.Run(policy, func(t *testing.T) {
			s, c := newSite(t, "auto")
			c.Server.TrustedProxies = []string{"127.0.0.1"}
			c.Server.Forwarded, c.Server.ExposeRequestID = policy, true
			if err := c.Server.HSTS.UnmarshalText([]byte("24h")); err != nil {
				t.Fatal(err)
			}
			s.Mount("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Seen", r.Header.Get("X-Request-Id"))
				_, _ = io.WriteString(w, r.RemoteAddr)
			}))
			s.run()
			r, err := http.NewRequest("GET", s.url+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-For", "203.0.113.1")
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("Forwarded", "for=203.0.113.2;proto=https")
			res, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			client, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			hsts := "max-age=86400"
			if want == "" { // neither client nor scheme is believed
				hsts = ""
			} else if string(client) != want {
				t.Errorf("client %s, want %s", client, want)
			}
			if got := res.Header.Get("Strict-Transport-Security"); got != hsts {
				t.Errorf("HSTS %q, want %q", got, hsts)
			}
			if id := res.Header.Get("X-Request-Id"); id == "" || id != res.Header.Get("Seen") {
				t.Errorf("request id %q, the handler saw %q", id, res.Header.Get("Seen"))
			}
		})
	}
}

func TestAForwardedPolicyThatIsNoneIsAnError(t *testing.T) {
	c := guado.Default()
	c.Server.Forwarded = "both"
	if err := c.Resolve(nil); err == nil {
		t.Error("taken")
	}
}
