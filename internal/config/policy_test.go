package config

import (
	"net/netip"
	"testing"
	"time"
)

func TestPoliciesOfMountsSayWhatIsWrongWithThem(t *testing.T) {
	dir := folder(t, map[string]string{"htpasswd": "", "media/x": ""})
	_, err := load(t, dir, shop+`
[[mount]]
app = "shop"
allow = ["10.0.0.0/8", "localhost"]
deny = ["10.0.0.0/8"]
satisfy = "some"
[[mount]]
path = "/a"
app = "shop"
basic_auth = "nosuch"
basic_auth_realm = "two\nlines"
[[mount]]
path = "/b"
app = "shop"
basic_auth_strip = true
[[mount]]
path = "/c"
app = "shop"
basic_auth = "htpasswd"
satisfy = "any"
[[mount]]
path = "/d"
app = "shop"
rate_limit = "10r/s"
rate_exempt = ["10.1.2.3/8"]
[[mount]]
path = "/e"
app = "shop"
rate_burst = 5
[[mount]]
path = "/f"
static = "media"
request_timeout = 5
sendfile = { "/p" = "media" }
[[mount]]
path = "/g"
app = "shop"
sendfile = { "p" = "media", "/q" = "nosuch", "/r" = "/" }
[[mount]]
path = "/h"
app = "shop"
remove_headers = ["Content-Length", "no name"]
[mount.set_headers]
"X-A" = "a\nb"
[mount.add_headers]
"X B" = "b"
"x-accel-redirect" = "/p/x"
[[mount]]
path = "/i"
app = "shop"
headers_when = "success"
`)
	wants(t, err,
		`guado.toml:7: mount[0].allow = ["10.0.0.0/8", "localhost"]: "localhost" is neither an address nor a network`,
		`guado.toml:8: mount[0].deny = "10.0.0.0/8": is in allow, too`,
		`guado.toml:9: mount[0].satisfy = "some": "some" is not known`,
		`guado.toml:13: mount[1].basic_auth = "`+dir+`/nosuch": does not exist`,
		`guado.toml:14: mount[1].basic_auth_realm = "two\nlines": has a control character`,
		`guado.toml:18: mount[2].basic_auth_strip: means nothing without basic_auth`,
		`guado.toml:23: mount[3].satisfy = "any": nobody would be asked for the password`,
		`guado.toml:27: mount[4].rate_limit = "10r/s": must be a number of requests in a second, minute or hour, as "10/s"`,
		`guado.toml:28: mount[4].rate_exempt = ["10.1.2.3/8"]: "10.1.2.3/8" has bits beyond its prefix; did you mean "10.0.0.0/8"?`,
		`guado.toml:32: mount[5].rate_burst = 5: means nothing without rate_limit`,
		`guado.toml:36: mount[6].request_timeout = "5s": is for app mounts only`,
		`guado.toml:37: mount[6].sendfile: is for mounts of an app or an upstream, and this is one of static`,
		`guado.toml:41: mount[7].sendfile = "/": would let the application send every file of this machine`,
		`guado.toml:41: mount[7].sendfile = "`+dir+`/nosuch": does not exist`,
		`guado.toml:41: mount[7].sendfile = "p": must be a plain path prefix`,
		`guado.toml:45: mount[8].remove_headers = "Content-Length": is the host's own business`,
		`guado.toml:45: mount[8].remove_headers = "no name": is not the name of a header field`,
		`guado.toml:47: mount[8].set_headers = "X-A": its value has a control character`,
		`guado.toml:49: mount[8].add_headers = "X B": is not the name of a header field`,
		`guado.toml:50: mount[8].add_headers = "x-accel-redirect": is the host's own business`,
		`guado.toml:54: mount[9].headers_when = "success": means nothing without`,
	)
}

func TestPoliciesOfTheServerSayWhatIsWrongWithThem(t *testing.T) {
	dir := t.TempDir()
	_, err := load(t, dir, `[server]
https_redirect = true
https_port = 70000
canonical_host = "https://example.org"
rate_limit = "fast"
[server.maintenance]
allow = ["all of us"]
page = "page.html"
except = ["static"]
[server.pause]
requests = 0
`+shop)
	wants(t, err,
		`guado.toml:2: server.https_redirect = true: no request could ever come over https: name a certificate in [server.tls], or the proxy`,
		`guado.toml:3: server.https_port = 70000: must be at most 65535`,
		`guado.toml:4: server.canonical_host = "https://example.org": must be a host name without scheme or port`,
		`guado.toml:5: server.rate_limit = "fast": must be a number of requests`,
		`guado.toml:7: server.maintenance.allow = ["all of us"]: "all of us" is neither`,
		`guado.toml:8: server.maintenance.page = "`+dir+`/page.html": does not exist`,
		`guado.toml:9: server.maintenance.except = "static": must be a plain path prefix`,
		`guado.toml:11: server.pause.requests = 0: must be at least 1`,
	)
	_, err = load(t, dir, "[server]\nhttps_port = 8443\n"+shop)
	wants(t, err, "guado.toml:2: server.https_port = 8443: means nothing without https_redirect")
}

func TestPoliciesAreReadAsTheyAreMeant(t *testing.T) {
	dir := folder(t, map[string]string{"media/x": ""})
	c := mustLoad(t, dir, `[server.limits]
body = "1MiB"
`+shop+`
[[mount]]
app = "shop"
rate_limit = "100/m"
allow = ["10.0.0.0/8", "2001:db8::1", "unix"]
sendfile = { "/protected" = "media" }
[[mount]]
path = "/upload"
app = "shop"
body_limit = "10GiB"
`)
	m := &c.Mounts[0]
	if n, period := m.Rate(); n != 100 || period != time.Minute {
		t.Errorf("rate %d in %v", n, period)
	}
	networks, unix, err := ParseAddresses(m.Allow)
	if err != nil || !unix || len(networks) != 2 || networks[0] != netip.MustParsePrefix("10.0.0.0/8") || networks[1].Bits() != 128 {
		t.Errorf("addresses %v, %v, %v", networks, unix, err)
	}
	if m.Sendfile["/protected"] != dir+"/media" {
		t.Errorf("folder %q", m.Sendfile)
	}
	if c.Body(m) != 1<<20 || c.Body(&c.Mounts[1]) != 10<<30 || c.LargestBody() != 10<<30 {
		t.Errorf("body limits %d, %d, %d", c.Body(m), c.Body(&c.Mounts[1]), c.LargestBody())
	}
	none := Size(0)
	c.Mounts[1].BodyLimit = &none
	if c.LargestBody() != 0 {
		t.Error("a mount without a limit is held to one")
	}
}

func TestPushIsForOriginsThatHaveAName(t *testing.T) {
	for _, origin := range []string{"*", "null"} {
		_, err := load(t, t.TempDir(), "[push]\norigins = [\"https://a.example\", \""+origin+"\"]\n"+shop)
		wants(t, err, `guado.toml:2: push.origins = "`+origin+`": may not be among them: a page that uses push speaks as the user`)
	}
	if _, err := load(t, t.TempDir(), "[push]\norigins = [\"https://a.example\", \"https://*.b.example\"]\n"+shop); err != nil {
		t.Error(err)
	}
}
