package admin

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// OpenAPI describes the interface; it is served as /v1/openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte

// version is the first segment of every path: what breaks clients gets a new one.
const version = "/v1/"

// Call is what was asked of a reading or an action.
type Call struct {
	request *http.Request
}

// Holder is whose token it came with; empty where none is asked for.
func (c Call) Holder() string { return holderOf(c.request) }

type holderKey struct{}

func holderOf(q *http.Request) string {
	name, _ := q.Context().Value(holderKey{}).(string)
	return name
}

// PID is the process that asks; 0: it is not known.
func (c Call) PID() int { return visitorOf(c.request.Context()).peer.PID }

// Raw is the body as it came.
func (c Call) Raw() ([]byte, error) { return io.ReadAll(c.request.Body) }

// Name is what stands for {name} of the path.
func (c Call) Name(name string) string { return c.request.PathValue(name) }

// Query is what stands behind the question mark.
func (c Call) Query() url.Values { return c.request.URL.Query() }

// Body reads the JSON object that came with the call into v, which keeps its values
// when none came. Keys that v does not know are refused.
func (c Call) Body(v any) error {
	body, err := io.ReadAll(c.request.Body)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: "the body is not what this action takes: " + err.Error()}
	}
	return nil
}

// Refusal is why something was not done, for the one who asked. Every other error is
// 500 with code failed.
type Refusal struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

func (r *Refusal) Error() string { return r.Message }

// NotFound is the refusal about a thing that is not there.
func NotFound(what, name string) *Refusal {
	return &Refusal{Status: http.StatusNotFound, Code: "unknown_" + what, Message: "there is no " + what + " " + name}
}

// asRefusal gives err the form in which it is told.
func asRefusal(err error) *Refusal {
	var r *Refusal
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &tooLarge):
		return &Refusal{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Message: "the body is too large"}
	case errors.Is(err, context.Canceled):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "stopping", Message: "the host is stopping"}
	}
	return &Refusal{Status: http.StatusInternalServerError, Code: "failed", Message: err.Error()}
}

// routes puts the interface together. Actions run under ctx.
func (s *Server) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.options.Readings {
		mux.HandleFunc("GET "+version+r.Path, func(w http.ResponseWriter, q *http.Request) {
			answer, err := r.Read(Call{q})
			s.tell(w, answer, err)
		})
	}
	for _, a := range s.options.Actions {
		mux.HandleFunc("POST "+version+a.Path, func(w http.ResponseWriter, q *http.Request) { s.act(ctx, w, q, a) })
	}
	for path, h := range s.options.Handlers {
		mux.Handle("GET "+version+path, h)
	}
	if s.options.Tokens != nil {
		return s.guard(mux)
	}
	mux.HandleFunc("GET "+version+"logs", s.logs)
	mux.HandleFunc("GET "+version+"openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(OpenAPI) // the client may have left
	})
	return s.guard(mux)
}

// guard lets in whom the connection's credentials allow, and gives answers of the
// multiplexer itself the form of all others.
func (s *Server) guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		v := visitorOf(q.Context())
		if v.err != nil {
			s.options.Log.Warn("admin interface refused", "method", q.Method, "path", q.URL.Path, "uid", v.peer.UID,
				"user", v.peer.User, "pid", v.peer.PID, "command", v.peer.Command, "error", v.err.Error())
			s.tell(w, nil, &Refusal{Status: http.StatusForbidden, Code: "forbidden", Message: "this process is refused: " + v.err.Error()})
			return
		}
		if s.options.Tokens != nil {
			holder, ok := s.options.Tokens.holder(bearer(q))
			if !ok {
				s.options.Log.Warn("a program without a valid token was refused", "path", q.URL.Path, "pid", v.peer.PID, "command", v.peer.Command)
				s.tell(w, nil, &Refusal{Status: http.StatusUnauthorized, Code: "bad_token", Message: "the token (GUADO_PUSH_TOKEN) is not valid, or not any more: each start of a program has its own"})
				return
			}
			q = q.WithContext(context.WithValue(q.Context(), holderKey{}, holder))
		}
		_, pattern := mux.Handler(q)
		switch {
		case pattern != "":
			mux.ServeHTTP(w, q)
		case s.otherMethod(mux, q) != "":
			w.Header().Set("Allow", s.otherMethod(mux, q))
			s.tell(w, nil, &Refusal{Status: http.StatusMethodNotAllowed, Code: "wrong_method", Message: q.URL.Path + " is asked with " + s.otherMethod(mux, q)})
		default:
			s.tell(w, nil, &Refusal{Status: http.StatusNotFound, Code: "unknown_path", Message: "there is no " + q.URL.Path + "; see /v1/openapi.yaml"})
		}
	})
}

func (s *Server) otherMethod(mux *http.ServeMux, q *http.Request) string {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := &http.Request{Method: method, URL: q.URL, Host: q.Host}
		if _, pattern := mux.Handler(other); pattern != "" {
			return method
		}
	}
	return ""
}

// act does what was asked and notes who asked.
func (s *Server) act(ctx context.Context, w http.ResponseWriter, q *http.Request, a Action) {
	if !s.begin() {
		s.tell(w, nil, context.Canceled)
		return
	}
	defer s.acting.Done()
	began := time.Now()
	q.Body = http.MaxBytesReader(w, q.Body, max(a.Largest, largestBody))
	if a.Brief {
		ctx = q.Context()
	}
	answer, err := a.Do(ctx, Call{q})
	peer := visitorOf(q.Context()).peer
	attrs := []any{"action", strings.TrimPrefix(q.URL.Path, version), "uid", peer.UID, "user", peer.User,
		"pid", peer.PID, "command", peer.Command, "seconds", time.Since(began).Seconds()}
	if holder := holderOf(q); holder != "" {
		attrs = append(attrs, "program", holder)
	}
	level := slog.LevelInfo
	if err != nil {
		level, attrs = slog.LevelWarn, append(attrs, "error", err.Error())
	}
	if a.Brief && (err == nil || asRefusal(err).Status < http.StatusInternalServerError) {
		level = slog.LevelDebug
	}
	s.options.Log.Log(q.Context(), level, "audit", attrs...)
	s.tell(w, answer, err)
}

// tell answers with JSON.
func (s *Server) tell(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	switch {
	case err != nil:
		refusal := asRefusal(err)
		status, answer = refusal.Status, map[string]any{"error": refusal}
	case answer == nil:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		s.options.Log.Error("an answer of the admin interface cannot be spelled as JSON", "error", err.Error())
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"failed","message":"the answer cannot be spelled as JSON"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may have left
}
