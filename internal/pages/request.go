package pages

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// From is the surroundings of a page's client: what its requests as messages go by.
type From struct {
	Scheme    string         `json:"scheme"`
	Host      string         `json:"host"`
	Origin    string         `json:"origin,omitempty"`
	Agent     string         `json:"agent,omitempty"`
	Languages string         `json:"languages,omitempty"`
	Cookies   string         `json:"cookies,omitempty"` // as a browser sends them
	Client    netip.AddrPort `json:"client,omitzero"`
	Peer      netip.Addr     `json:"peer,omitzero"`
	LocalName string         `json:"local_name,omitempty"`
	LocalPort uint16         `json:"local_port,omitempty"`
	Unix      bool           `json:"unix,omitempty"`

	// Authorization is that of a password that the browser sends by itself. It is written
	// nowhere: after a start the client's handshake brings it again.
	Authorization string `json:"-"`
}

// FromExchange takes them from a request of the client. It keeps no bytes of it.
func FromExchange(x *exchange.Exchange) From {
	var cookies []string
	for i := range x.Fields {
		if x.Fields[i].Is("cookie") {
			cookies = append(cookies, string(x.Fields[i].Value))
		}
	}
	return From{
		Scheme: x.Scheme, Host: shared(x.Host), Origin: shared(x.Field("origin")), Agent: shared(x.Field("user-agent")),
		Languages: shared(x.Field("accept-language")), Cookies: strings.Join(cookies, "; "),
		Client: x.Client, Peer: x.Peer, LocalName: x.LocalName, LocalPort: x.LocalPort, Unix: x.Unix,
		Authorization: string(x.Field("authorization")),
	}
}

// shared gives the same memory for the same text: thousands of pages have few browsers.
func shared(text []byte) string { return unique.Make(string(text)).Value() }

// request sends a message of the client over the host's own road, as a POST that the
// application cannot tell from a browser's but by its fields.
func (pg *page) request(j *job) {
	out := pg.sends(j)
	if out.wait && !j.reply && pg.pages.stopping() {
		j.undone = true
		return
	}
	token := ""
	if len(out.cookies) > 0 {
		token = pg.keepCookies(out.cookies, j.reply)
	}
	if out.err != nil && !j.reply {
		pg.pages.opts.Log.Warn("message of a page failed", "page", pg.id, "to", j.to, "error", out.err)
	}
	pg.reply(j, out.outcome, token)
}

// answered is what came of a request.
type answered struct {
	outcome
	cookies []string // values of Set-Cookie
}

func refused(code, text string) answered {
	return answered{outcome: outcome{err: &push.ReplyError{Code: code, Message: text}}}
}

// sends runs the request, again while nobody takes a message that wants no reply.
func (pg *page) sends(j *job) answered {
	began := time.Now()
	for try := 0; ; try++ {
		out := pg.send(j)
		if !out.wait || j.reply || time.Since(began) > mostPatience {
			return out
		}
		pg.pages.count.again.Add(1)
		if !pg.pages.pause(retryDelay(try)) {
			return out
		}
	}
}

func (pg *page) send(j *job) answered {
	p := pg.pages
	to := j.to
	if to == "" {
		to = pg.path
	}
	switch {
	case to == "":
		return refused("no_path", "the page was opened without a path: say where the message goes")
	case to[0] != '/':
		return refused("bad_path", fmt.Sprintf("%.40q is no path: a path begins with /, as in \"/%.40s\"", to, to))
	case strings.HasPrefix(to, OwnPaths):
		return refused("bad_path", "what is below "+OwnPaths+" is the server's own: a message goes to a path of the application")
	case len(to) > mostTo:
		return refused("bad_path", fmt.Sprintf("the path of the message has %d bytes, where %d are allowed", len(to), mostTo))
	}
	owner := pg.session.Owner()
	if owner.User != j.user {
		return answered{outcome: outcome{err: errIdentity}}
	}
	pg.mu.Lock()
	from := pg.from
	pg.mu.Unlock()
	x := p.exchange("message")
	x.Length, x.Body = int64(len(j.data)), exchange.BodyOf(j.data)
	x.Scheme, x.Host, x.Target, x.RawPath, x.Path = from.Scheme, []byte(from.Host), []byte(to), nil, nil
	x.Client, x.Peer, x.LocalName, x.LocalPort, x.Unix = from.Client, from.Peer, from.LocalName, from.LocalPort, from.Unix
	x.Fields = append(x.Fields,
		exchange.Field{Name: []byte("Content-Type"), Value: []byte("application/json")},
		exchange.Field{Name: []byte("Content-Length"), Value: strconv.AppendInt(nil, x.Length, 10)},
	)
	x.Fields = append(x.Fields, fields(from)...)
	if problem := p.opts.Target(x); problem != nil {
		return refused("bad_path", fmt.Sprintf("the path %.40q cannot be read: it has a malformed escape, or a segment . or ..", to))
	}
	if p.opts.Carry != nil {
		p.opts.Carry(x, pg.id, owner)
	}
	a := &exchange.Collected{Limit: int64(p.hub.Options().Message)}
	x.Answer = a
	pg.settles(j, x, ofRequest)
	if !pg.begin(j, x) {
		return answered{outcome: outcome{err: errCancelled}}
	}
	p.count.requests.Add(1)
	p.opts.Begin(x)
	p.opts.Road().Serve(x)
	pg.ends(j)
	p.opts.Settle(x.Worker) // what the application pushed comes before its answer
	outcome := a.Outcome()
	outcome.BytesIn = x.Length
	p.opts.End(x, outcome)
	out := answered{outcome: ofRequest(a)}
	for _, f := range a.Fields {
		if f.Is("set-cookie") {
			out.cookies = append(out.cookies, string(f.Value))
		}
	}
	return out
}

// OwnPaths are below this: no message goes there.
const OwnPaths = "/_guado/"

// fields are those of a browser, as far as applications go by them.
func fields(f From) []exchange.Field {
	list := []exchange.Field{
		{Name: []byte("Accept"), Value: []byte("application/json, text/plain;q=0.9, */*;q=0.1")},
		{Name: []byte("Guado-Message"), Value: []byte("1")},
	}
	for _, one := range [...]struct{ name, value string }{
		{"Origin", f.Origin}, {"User-Agent", f.Agent}, {"Accept-Language", f.Languages}, {"Authorization", f.Authorization}, {"Cookie", f.Cookies},
	} {
		if one.value != "" {
			list = append(list, exchange.Field{Name: []byte(one.name), Value: []byte(one.value)})
		}
	}
	return list
}

// mostCookies is how many replies of a page may wait for their cookies to be fetched.
const mostCookies = 16

// keepCookies takes note of what an answer set, for the page's next requests, and keeps it
// until the client fetches it with the token.
func (pg *page) keepCookies(set []string, fetched bool) (token string) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.from.Cookies = withCookies(pg.from.Cookies, set, time.Now())
	if !fetched || pg.ended && !pg.session.Leaving() {
		return ""
	}
	if pg.cookies == nil {
		pg.cookies = map[string][]string{}
	}
	if len(pg.cookies) >= mostCookies {
		clear(pg.cookies) // a client that fetches none has no use for them
	}
	token = rand.Text()
	pg.cookies[token] = set
	return token
}

// Cookies gives, once, what the answer to a message set.
func (p *Pages) Cookies(id, token string) []string {
	s := p.hub.Client(id)
	if s == nil {
		return nil
	}
	pg := pageOf(s)
	if pg == nil {
		return nil
	}
	pg.mu.Lock()
	set, is := pg.cookies[token]
	delete(pg.cookies, token)
	if len(pg.cookies) == 0 {
		pg.cookies = nil
	}
	pg.mu.Unlock()
	if is {
		s.Fetched()
	}
	return set
}
