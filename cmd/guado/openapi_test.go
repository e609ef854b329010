package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/guado-server/guado/internal/admin"
)

// question is what the test asks, and the status that is right.
type question struct {
	method, path, body string
	status             int
}

// ofPages are asked of a server that has them.
var ofPages = []question{
	{"GET", "/v1/status", "", 200},
	{"POST", "/v1/push", `{"to": {"all": true}, "data": 1}`, 200},
	{"POST", "/v1/push", `{"to": {"user": "anna"}, "data": [1], "snapshot": true}`, 200},
	{"POST", "/v1/push", `{"to": {"connection": "none"}, "data": {}, "ack": true, "timeout_ms": 10}`, 200},
	{"POST", "/v1/push", `{"to": {"page": "none"}, "data": 1}`, 404},
	{"POST", "/v1/push", `{"to": {}, "data": 1}`, 400},
	{"POST", "/v1/push", `{"to": {"page": "a", "user": "b"}, "data": 1}`, 400},
	{"POST", "/v1/push", `{"to": {"all": true}, "data": "` + strings.Repeat("x", 1<<20) + `"}`, 413},
	{"POST", "/v1/push", `{"to": {"all": true}, "data": "` + strings.Repeat("x", 2<<20) + `"}`, 413},
	{"POST", "/v1/push", ``, 400},
	{"POST", "/v1/publish", `{"topic": "invoice.paid", "data": {"n": 1}}`, 200},
	{"POST", "/v1/publish", `{"topic": "invoice.paid"}`, 200},
	{"POST", "/v1/publish", `{"data": 1}`, 400},
	{"POST", "/v1/publish", `{"topic": "a", "data": "` + strings.Repeat("x", 1<<20) + `"}`, 413},
	{"POST", "/v1/dbevent", `{"table": "invoice", "action": "insert", "keys": [1], "rows": [{"total": 2}]}`, 200},
	{"POST", "/v1/dbevent", `{"changes": [{"table": "a"}, {"table": "b", "action": "delete", "keys": [[1, "x"]]}]}`, 200},
	{"POST", "/v1/dbevent", `{"table": "a b"}`, 400},
	{"POST", "/v1/global.set", `{"path": ["rates", "EUR"], "value": 1.50}`, 200},
	{"POST", "/v1/global.set", `{"path": ["rates", "USD"], "value": 1, "ttl_ms": 100000}`, 200},
	{"POST", "/v1/global.set", `{"path": ["rates", "EUR", "x"], "value": 1}`, 409},
	{"POST", "/v1/global.set", `{"path": [], "value": 1}`, 400},
	{"POST", "/v1/global.set", `{"path": ["a"], "value": 1, "ttl_ms": -1}`, 400},
	{"POST", "/v1/global.set", `{"path": ["a"], "value": "` + strings.Repeat("x", 1<<20) + `"}`, 413},
	{"POST", "/v1/global.compare", `{"path": ["rates", "EUR"], "old": 1.5, "new": {"a": [1]}}`, 200},
	{"POST", "/v1/global.add", `{"path": ["hits"], "by": "2"}`, 200},
	{"POST", "/v1/global.add", `{"path": ["rates"]}`, 409},
	{"POST", "/v1/global.default", `{"path": ["hits"], "value": null}`, 200},
	{"GET", "/v1/migrate", "", 200},
	{"POST", "/v1/migrate/check", `{"phase": 6, "attest": ["tests"]}`, 200},
	{"POST", "/v1/migrate/check", `{"phase": 1}`, 400},
	{"POST", "/v1/migrate/check", `{"phase": 3, "attest": ["PUSH"]}`, 400},
	{"GET", "/v1/global", "", 200},
	{"GET", "/v1/global?key=rates&key=EUR", "", 200},
	{"GET", "/v1/global?key=nothing", "", 200},
	{"POST", "/v1/global.delete", `{"path": ["rates"]}`, 200},
	{"POST", "/v1/tokens", `{"name": "test"}`, 200},
	{"POST", "/v1/tokens", `{"who": "test"}`, 400},
}

// questions are what the test asks of each action; readings are asked as they are.
var questions = []question{
	{"GET", "/v1/status", "", 200},
	{"GET", "/v1/workers", "", 200},
	{"GET", "/v1/workers/p01", "", 200},
	{"GET", "/v1/workers/p99", "", 404},
	{"GET", "/v1/programs", "", 200},
	{"GET", "/v1/programs/sleeper", "", 200},
	{"GET", "/v1/programs/nobody", "", 404},
	{"POST", "/v1/programs/sleeper/stop", "", 200},
	{"POST", "/v1/programs/sleeper/start", "", 200},
	{"POST", "/v1/programs/sleeper/restart", "", 200},
	{"POST", "/v1/programs/nobody/restart", "", 404},
	{"GET", "/v1/executors", "", 200},
	{"GET", "/v1/mounts", "", 200},
	{"GET", "/v1/users", "", 200},
	{"GET", "/v1/connections", "", 200},
	{"GET", "/v1/pages", "", 200},
	{"GET", "/v1/pages/nobody", "", 404},
	{"POST", "/v1/pages/nobody/end", "", 404},
	{"GET", "/v1/users/nobody", "", 404},
	{"POST", "/v1/users/nobody/end", "", 404},
	{"GET", "/v1/connections/nobody", "", 404},
	{"POST", "/v1/connections/nobody/end", "", 404},
	{"GET", "/v1/ended", "", 200},
	{"POST", "/v1/clock", `{"seconds": 1}`, 403},
	{"POST", "/v1/clock", `{"hours": 1}`, 400},
	{"GET", "/v1/config", "", 200},
	{"GET", "/v1/logs?tail=1", "", 200},
	{"GET", "/v1/metrics", "", 200},
	{"GET", "/v1/livez", "", 200},
	{"GET", "/v1/readyz", "", 200},
	{"GET", "/v1/openapi.yaml", "", 200},
	{"POST", "/v1/resume", "", 409},
	{"POST", "/v1/pause", `{"requests": 10, "wait_seconds": 0.5}`, 200},
	{"POST", "/v1/pause", "", 409},
	{"POST", "/v1/resume", "", 200},
	{"POST", "/v1/pause", `{"requests": -1}`, 400},
	{"POST", "/v1/maintenance", `{"on": true}`, 200},
	{"POST", "/v1/maintenance", `{}`, 400},
	{"POST", "/v1/maintenance", `{"on": false}`, 200},
	{"POST", "/v1/workers/p01/stack", "", 200},
	{"POST", "/v1/workers/p01/cordon", "", 204},
	{"POST", "/v1/workers/p01/uncordon", "", 204},
	{"POST", "/v1/workers/p01/restart", "", 204},
	{"POST", "/v1/workers/p99/restart", "", 404},
	{"POST", "/v1/workers/p99/kill", "", 404},
	{"POST", "/v1/workers/p01/drain", "", 204},
	{"POST", "/v1/workers/restart", "", 204},
	{"POST", "/v1/groups/hello/scale", `{"workers": 2}`, 200},
	{"POST", "/v1/groups/hello/scale", `{"workers": 0}`, 400},
	{"POST", "/v1/groups/nobody/scale", `{"workers": 1}`, 404},
	{"POST", "/v1/push", `{"to": {"all": true}, "data": 1}`, 409},
	{"POST", "/v1/publish", `{"topic": "a.b", "data": 1}`, 409},
	{"POST", "/v1/tokens", `{"name": "test"}`, 409},
	{"POST", "/v1/dbevent", `{"table": "a"}`, 409},
	{"POST", "/v1/global.set", `{"path": ["a"], "value": 1}`, 409},
	{"GET", "/v1/global", "", 409},
	{"POST", "/v1/reload", "", 200},
	{"POST", "/v1/stop", `{"later": true}`, 400},
	{"POST", "/v1/stop", `{"now": true}`, 204},
}

// TestTheInterfaceIsAsItsDescriptionSays asks everything that the description has of
// real servers, and holds each answer against it. That a server has nothing beyond it
// is held in the root package.
func TestTheInterfaceIsAsItsDescriptionSays(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(admin.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.JSONBodyDecoder) // the test asks for one record
	const program = "[[program]]\nname = \"sleeper\"\ncommand = [\"sleep\", \"1000\"]\nstart_seconds = 0\n"
	seen := slices.Concat(
		inquire(t, router, "phase = 4\n[[app]]\ntarget = \"hello\"\n", ofPages),
		inquire(t, router, "[[app]]\ntarget = \"hello\"\n"+program, questions),
	)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !slices.Contains(seen, method+" "+path) {
				t.Errorf("%s %s is described, and nobody asked for it: add it to the test", method, path)
			}
		}
	}
}

// inquire asks a server of this configuration, and tells what was asked.
func inquire(t *testing.T, router routers.Router, configuration string, list []question) (seen []string) {
	t.Helper()
	dir, s := site(t, map[string]string{"guado.toml": configuration})
	get(t, s.url)
	c := &command{out: io.Discard, err: io.Discard, environ: os.Environ()}
	server, err := c.connect(context.Background(), &remote{socket: text{value: filepath.Join(dir, "state", "admin.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.http.CloseIdleConnections()
	for _, a := range list {
		q, err := http.NewRequestWithContext(context.Background(), a.method, "http://guado"+a.path, strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		if a.body != "" {
			q.Header.Set("Content-Type", "application/json")
		}
		route, params, err := router.FindRoute(q)
		if err != nil {
			t.Errorf("%s %s: %v", a.method, a.path, err)
			continue
		}
		seen = append(seen, a.method+" "+route.Path)
		in := &openapi3filter.RequestValidationInput{Request: q, PathParams: params, Route: route}
		if err := openapi3filter.ValidateRequest(context.Background(), in); (err == nil) != (a.status != 400) {
			t.Errorf("%s %s %.100s: the description says of the request: %v", a.method, a.path, a.body, err)
		}
		q.Body = io.NopCloser(strings.NewReader(a.body))
		res, err := server.http.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != a.status {
			t.Errorf("%s %s %.100s: %d %s", a.method, a.path, a.body, res.StatusCode, body)
		}
		out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(body))}
		if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
			t.Errorf("%s %s: %v\n%s", a.method, a.path, err, body)
		}
	}
	return seen
}
