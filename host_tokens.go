package guado

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/config"
)

// What a program finds in its environment.
const (
	pushVariable  = "GUADO_PUSH"
	tokenVariable = "GUADO_PUSH_TOKEN"
)

// forPrograms are the verbs of workers that programs may use as well: the role push.
var forPrograms = []string{
	"push", "push.wait", "publish", "dbevent", "page.get", "page.end", "page.subscribe", "page.unsubscribe",
	"global.get", "global.set", "global.delete", "global.compare", "global.add", "global.default",
}

// verbWait is push for those who wait for the acknowledgements of clients.
const verbWait = "push.wait"

// asksAbove is what a request may be longer than the data of a message.
const asksAbove = 64 << 10

// openPrograms opens the socket on which programs push and publish. As with the admin
// interface, a host whose socket nobody has named serves without where there is no place.
func (h *host) openPrograms() error {
	a := h.config.Admin
	if h.config.Server.Phase < phasePush || a.PushSocket == config.AdminOff || a.PushSocket == "" {
		return nil
	}
	o := admin.Options{
		Socket: a.PushSocket, Beside: a.PushDerived, Shared: os.Geteuid() == 0, Tokens: &h.tokens, Log: h.log,
	}
	o.Actions = h.asks(forPrograms...)
	for i := range o.Actions {
		o.Actions[i].Brief = true
	}
	server, err := admin.New(o)
	switch {
	case err == nil:
		h.window.Store(server)
		h.log.Debug("socket of programs", "socket", server.Path())
		return nil
	case a.PushDerived:
		h.log.Warn("programs cannot push or publish; name a socket (admin.push_socket) or say \"off\"", "error", err.Error())
		return nil
	}
	return fmt.Errorf("admin.push_socket: %w", err)
}

func (h *host) closePrograms() error {
	if w := h.window.Load(); w != nil {
		return w.Close()
	}
	return nil
}

// withToken adds what a program needs to push and publish. Each start has a token of its
// own; that of the start before is not valid any more.
func (s *Server) withToken(env []string, program string) []string {
	h := s.running()
	if h == nil {
		return env
	}
	w := h.window.Load()
	if w == nil {
		return env
	}
	own := func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return name == pushVariable || name == tokenVariable
	}
	return append(slices.DeleteFunc(slices.Clone(env), own),
		pushVariable+"=unix:"+w.Path(), tokenVariable+"="+h.tokens.Issue(holderOf(program)))
}

func holderOf(program string) string { return "program " + program }

// revoke takes the tokens of programs that there are no more.
func (h *host) revoke() {
	names := map[string]bool{}
	for _, p := range h.programs.Status(0) {
		names[holderOf(p.Name)] = true
	}
	h.tokens.Revoke(func(holder string) bool { return names[holder] })
}

// askToken gives a token to a command that the operator starts beside the server: it is
// good as long as that process lives.
func (h *host) askToken(_ context.Context, c admin.Call) (any, error) {
	var who struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
	}
	if err := c.Body(&who); err != nil {
		return nil, err
	}
	w := h.window.Load()
	if w == nil {
		return nil, h.noPush()
	}
	if pid := c.PID(); pid > 0 {
		who.PID = pid
	}
	if who.PID <= 1 {
		return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: "say for which process it is: pid"}
	}
	token, err := h.tokens.IssueTo(fmt.Sprintf("exec %s (%d)", who.Name, who.PID), who.PID)
	if err != nil {
		return nil, &admin.Refusal{Status: http.StatusServiceUnavailable, Code: "too_many_tokens", Message: err.Error()}
	}
	return map[string]string{"socket": "unix:" + w.Path(), "token": token}, nil
}

// noPush is why a server does not push.
func (h *host) noPush() error {
	if !h.pushes() {
		return &admin.Refusal{Status: http.StatusConflict, Code: "phase", Message: "this server neither pushes nor publishes: that begins with server.phase = 3"}
	}
	return &admin.Refusal{Status: http.StatusConflict, Code: "no_push_socket", Message: "there is no socket of programs: admin.push_socket is \"off\", or there was no place for it"}
}

// pushActions are what operators can do of what applications do.
func (h *host) pushActions() []admin.Action {
	return append(h.asks("push", "publish", "dbevent", "global.set", "global.delete", "global.compare", "global.add", "global.default"),
		admin.Action{Path: "tokens", Do: h.askToken})
}

// asks are verbs of workers as actions.
func (h *host) asks(verbs ...string) []admin.Action {
	actions := make([]admin.Action, 0, len(verbs))
	for _, verb := range verbs {
		actions = append(actions, admin.Action{Path: verb, Largest: h.largestAsk(verb), Do: h.ask(verb)})
	}
	return actions
}

func (h *host) largestAsk(verb string) int64 {
	if strings.HasPrefix(verb, "global.") {
		return 2*h.config.Global.Value.Bytes() + asksAbove // compare has two
	}
	return h.config.Push.Message.Bytes() + asksAbove
}

// ask answers a verb for those who have no link.
func (h *host) ask(verb string) func(context.Context, admin.Call) (any, error) {
	return func(ctx context.Context, c admin.Call) (any, error) {
		if !h.pushes() {
			return nil, h.noPush()
		}
		if !h.keeps() && strings.HasPrefix(verb, "global.") {
			return nil, noGlobal()
		}
		data, err := c.Raw()
		if err != nil {
			return nil, err
		}
		caller := calls.Caller{Group: "@admin", Slot: "admin"}
		if holder := c.Holder(); holder != "" {
			caller = calls.Caller{Group: "@programs", Slot: holder}
		}
		return h.say(ctx, verb, caller, data)
	}
}

func (h *host) say(ctx context.Context, verb string, caller calls.Caller, data []byte) (any, error) {
	var wants struct {
		Ack bool `json:"ack"`
	}
	if err := json.Unmarshal(data, &wants); err != nil {
		return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: "the body is no JSON object as this action takes: " + err.Error()}
	}
	if verb == "push" && wants.Ack {
		verb = verbWait
	}
	answer, err := h.calls.Do(ctx, caller, verb, data)
	if failed := h.kept.wait(); err == nil && failed != nil {
		err = unkept(failed)
	}
	var known *calls.Error
	switch {
	case errors.As(err, &known):
		return nil, &admin.Refusal{Status: known.Status, Code: known.Code, Message: known.Text}
	case err != nil:
		return nil, err
	case answer == nil:
		answer = struct{}{}
	}
	return answer, nil
}
