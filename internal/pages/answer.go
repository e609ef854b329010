package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// refusals are codes of problems after which nothing was done.
var refusals = map[string]bool{
	"queue_full": true, "queue_timeout": true, "maintenance": true, "paused": true, "not_ready": true, "stopping": true,
}

// hosts tells what the host's own answer means to a client.
func hosts(p *exchange.Problem) outcome {
	switch {
	case p.Code == "login_under_way":
		return outcome{err: errIdentity}
	case p.Code == "deadline":
		return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "it took too long"}}
	case errors.Is(p.Err, exchange.ErrStarted):
		return outcome{lost: true, err: &push.ReplyError{Code: push.ReplyLost, Message: "the server stopped: it may have been done, or not"}}
	case p.Code == "worker_died" || p.Status == 502:
		return outcome{lost: true, err: &push.ReplyError{Code: push.ReplyLost, Message: "its worker died: it may have been done, or not"}}
	case p.Code == "durability_unavailable":
		return outcome{err: &push.ReplyError{Code: p.Code, Message: "it was done, and could not be kept: it may be lost"}}
	case refusals[p.Code] || p.Status == 503:
		return outcome{wait: true, err: &push.ReplyError{Code: push.ReplyBusy, Message: "the server has no room now; nothing was done"}}
	case p.Status == 504:
		return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "it took too long"}}
	}
	return outcome{err: &push.ReplyError{Code: fmt.Sprintf("http_%d", p.Status), Message: p.Code}}
}

// unfit tells of an answer that is none of the application's, or not complete.
func unfit(a *exchange.Collected) (outcome, bool) {
	p := a.Refused
	switch {
	case p != nil, errors.As(a.Err, &p):
		return hosts(p), true
	case errors.Is(a.Err, exchange.ErrAnswerTooLarge):
		return outcome{err: &push.ReplyError{Code: "too_big", Message: fmt.Sprintf("the answer is longer than the %d bytes that a message may have", a.Limit)}}, true
	case a.Err != nil:
		return outcome{lost: true, err: &push.ReplyError{Code: push.ReplyLost, Message: "the answer was cut"}}, true
	}
	return outcome{}, false
}

// ofTurn reads the answer to a turn.
func ofTurn(a *exchange.Collected) outcome {
	if out, is := unfit(a); is {
		return out
	}
	if a.Status == 200 {
		return outcome{data: a.Body} // that it is JSON is seen when it is sent
	}
	var said struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(a.Body, &said); err != nil {
		return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "the handler's answer cannot be read"}}
	}
	if said.Code == "" {
		said.Code = push.ReplyFailed
	}
	return outcome{refused: a.Status == 403 || a.Status == 404, said: a.Status < 500, err: &push.ReplyError{Code: said.Code, Message: said.Message}}
}

// mostText is how much of an error's text a client is told.
const mostText = 2 << 10

// ofRequest reads the answer to a message that was made a request.
func ofRequest(a *exchange.Collected) outcome {
	if out, is := unfit(a); is {
		return out
	}
	kind, _, _ := strings.Cut(strings.ToLower(string(a.Field("content-type"))), ";")
	kind = strings.TrimSpace(kind)
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	status := a.Status
	switch {
	case status < 200 || status > 299:
		text := http.StatusText(status)
		if (isJSON || strings.HasPrefix(kind, "text/plain")) && len(a.Body) > 0 && utf8.Valid(a.Body) {
			text = string(a.Body[:min(len(a.Body), mostText)])
		}
		return outcome{err: &push.ReplyError{Code: fmt.Sprintf("http_%d", status), Message: strings.ToValidUTF8(text, "")}}
	case len(a.Body) == 0:
		return outcome{}
	case isJSON:
		return outcome{data: a.Body}
	case (strings.HasPrefix(kind, "text/") || kind == "") && utf8.Valid(a.Body):
		text, err := json.Marshal(string(a.Body))
		if err == nil {
			return outcome{data: text}
		}
	}
	return outcome{err: &push.ReplyError{Code: push.ReplyFailed, Message: "the answer is neither JSON nor text in UTF-8"}}
}
