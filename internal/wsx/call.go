package wsx

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/exchange"
)

// call is a message on its way as a request.
type call struct {
	k      *session
	e      *envelope
	x      *exchange.Exchange
	answer *exchange.Collected
	form   bool // a call of a page class: the answer tells its fields
	size   int
	lane   *lane
}

var (
	errNoPath   = errors.New("path is missing")
	errForm     = errors.New("form is not urlencoded")
	errPageID   = errors.New("page_id of the form is another one")
	errNotText  = errors.New("the answer is no text in UTF-8")
	errNoAnswer = errors.New("the application gave no answer")
)

// newCall makes the request of a message.
func (k *session) newCall(e *envelope) (*call, int, error) {
	if e.Path == "" {
		return nil, 400, errNoPath
	}
	data, err := e.payload()
	if err != nil {
		return nil, 400, err
	}
	c := &call{k: k, e: e, x: exchange.New(), answer: &exchange.Collected{Limit: int64(k.step.opts.Message)}}
	body, kind, err := c.body(data)
	if err != nil {
		return nil, 400, err
	}
	c.size = len(body)
	k.serial++ // the socket's goroutine is the only one here
	x := c.x
	x.Answer, x.Message = c.answer, true
	x.Request = k.template
	x.GuadoPage = []byte(e.PageID)
	x.ID = fmt.Sprintf("%s-%d", k.template.ID, k.serial)
	x.Target = []byte(e.Path)
	x.Fields = append(slices.Clone(k.template.Fields),
		field("Content-Type", kind), field("Content-Length", fmt.Sprint(len(body))), field("Guado-Message", "1"))
	x.Length, x.Body = int64(len(body)), exchange.BodyOf(body)
	if problem := k.step.opts.Split(x); problem != nil {
		return nil, problem.Status, problem
	}
	return c, 0, nil
}

// body gives what is posted, and its type.
func (c *call) body(data payload) ([]byte, string, error) {
	var rpc struct {
		Form *string `json:"form"`
	}
	if len(data.json) > 0 && data.json[0] == '{' && json.Unmarshal(data.json, &rpc) == nil && rpc.Form != nil {
		c.form = true
		form := *rpc.Form
		values, err := url.ParseQuery(form)
		switch ids := values["page_id"]; {
		case err != nil:
			return nil, "", fmt.Errorf("%w: %w", errForm, err)
		case c.e.PageID == "" && len(ids) > 0, slices.ContainsFunc(ids, func(id string) bool { return id != c.e.PageID }):
			return nil, "", errPageID
		case c.e.PageID != "" && len(ids) == 0:
			form = strings.TrimPrefix(form+"&page_id="+url.QueryEscape(c.e.PageID), "&")
		}
		return []byte(form), "application/x-www-form-urlencoded", nil
	}
	if data.typed {
		return []byte(wrap(append(data.json, typedMark...))), typedJSON, nil
	}
	if data.json == nil {
		return []byte("null"), "application/json", nil
	}
	return data.json, "application/json", nil
}

const typedJSON = "application/vnd.tytx+json"

func field(name, value string) exchange.Field {
	return exchange.Field{Name: []byte(name), Value: []byte(value)}
}

// run sends the call over the road and answers it.
func (c *call) run() {
	defer c.k.left(c)
	x := c.x
	x.Received = time.Now()
	o := &c.k.step.opts
	o.Begin(x)
	o.Road.Serve(x)
	outcome := c.answer.Outcome()
	outcome.BytesIn = x.Length
	o.End(x, outcome)
	if x.Gone() == exchange.Closed {
		return
	}
	status, data, err := c.reply()
	if err != nil && status >= 500 {
		c.k.warn("a call of a WSX client failed", "call", x.ID, "path", c.e.Path, "status", status, "error", err)
	}
	c.k.answer(c.e, status, data)
}

// reply makes the client's answer of the application's. err is for the log.
func (c *call) reply() (status int, data string, err error) {
	a := c.answer
	switch p := a.Refused; {
	case p != nil:
		return p.Status, wrapText(p.Code + ", request id " + c.x.ID), p
	case a.Err != nil:
		return 500, wrapText("answer_cut, request id " + c.x.ID), a.Err
	case a.Status == 0:
		return 500, wrapText("no_answer, request id " + c.x.ID), errNoAnswer
	case !utf8.Valid(a.Body) || a.Field("content-encoding") != nil:
		return 500, wrapText("not_text, request id " + c.x.ID), errNotText
	case a.Status >= 400:
		return a.Status, wrapText(string(a.Body)), nil
	case c.form:
		return a.Status, wrap(c.rpcReply()), nil
	}
	kind, _, err := mime.ParseMediaType(string(a.Field("content-type")))
	switch {
	case len(a.Body) == 0:
		return a.Status, "", nil
	case err == nil && kind == typedJSON:
		return a.Status, string(a.Body), nil
	case err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")) && json.Valid(a.Body):
		return a.Status, wrap(a.Body), nil
	}
	return a.Status, wrapText(string(a.Body)), nil
}

// rpcReply is the answer to a form: what the client would have read of it over HTTP.
func (c *call) rpcReply() []byte {
	b := append([]byte(`{"body":`), quote(string(c.answer.Body))...)
	b = append(b, `,"headers":{`...)
	seen := map[string]bool{}
	for _, f := range c.answer.Fields {
		name := strings.ToLower(string(f.Name))
		if seen[name] || name != "content-type" && name != "location" && !strings.HasPrefix(name, "x-gnr") || !utf8.Valid(f.Value) {
			continue
		}
		if len(seen) > 0 {
			b = append(b, ',')
		}
		seen[name] = true
		b = append(append(append(b, quote(name)...), ':'), quote(string(f.Value))...)
	}
	return append(b, "}}"...)
}

// notCarried are fields of the handshake that say nothing of a call, or would make the
// answer to one something that no message can be.
var notCarried = []string{
	"content-length", "content-type", "content-encoding", "transfer-encoding", "accept-encoding", "cache-control", "pragma", "range",
	"guado-message", "guado-page", "tracestate", "expect", "te", "trailer",
}

// copyRequest keeps what the handshake says of its client.
func copyRequest(r *exchange.Request) exchange.Request {
	c := exchange.Request{
		ID: r.ID, Method: "POST", Version: exchange.HTTP11, Scheme: r.Scheme, Host: slices.Clone(r.Host),
		Peer: r.Peer, Client: r.Client, LocalName: r.LocalName, LocalPort: r.LocalPort, Unix: r.Unix, Proxied: r.Proxied,
	}
	if r.TLS != nil {
		tls := *r.TLS
		c.TLS = &tls
	}
	for _, f := range r.Fields {
		name := strings.ToLower(string(f.Name))
		if slices.Contains(notCarried, name) || strings.HasPrefix(name, "sec-websocket-") || strings.HasPrefix(name, "if-") {
			continue
		}
		c.Fields = append(c.Fields, exchange.Field{Name: slices.Clone(f.Name), Value: slices.Clone(f.Value)})
	}
	return c
}
