package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asClient makes the test binary ask the socket that it names for the status, and
// print what it gets: a process of its own, where and as whom the test wants it.
const asClient = "GUADO_TEST_ADMIN_CLIENT"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asClient); socket != "" {
		status, body, err := ask(socket, http.MethodGet, "status", "")
		if err != nil {
			body = err.Error()
		}
		_, _ = os.Stdout.WriteString(strings.TrimSpace(body) + "\n") // the test sees that nothing came
		if status != http.StatusOK {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// nobody is the id of no process: the tests themselves may ask their server.
const nobody = 1 << 30

const limit = 30 * time.Second

// ask sends one request over a connection of its own.
func ask(socket, method, path, body string) (status int, answer string, err error) {
	return askWith(socket, method, path, body, "")
}

func dialer(socket string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
}

// askWith shows a token as well.
func askWith(socket, method, path, body, token string) (status int, answer string, err error) {
	t := dialer(socket)
	defer t.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, "http://guado/v1/"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := t.RoundTrip(q)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), errors.Join(err, res.Body.Close())
}

// rig is a server with one reading and some actions.
type rig struct {
	*Server
	t       *testing.T
	journal *Journal
	log     *slog.Logger
	begun   chan struct{} // the action slow has begun
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, journal: NewJournal(), begun: make(chan struct{}, 1)}
	r.log = slog.New(r.journal.Handler(slog.DiscardHandler))
	o := Options{
		Socket: filepath.Join(t.TempDir(), "admin.sock"), Instance: "INSTANCE", Host: nobody, Journal: r.journal, Log: r.log,
		Readings: []Reading{{Path: "status", Read: func(Call) (any, error) { return map[string]string{"state": "fine"}, nil }}},
		Actions: []Action{
			{Path: "things/{name}/turn", Do: func(_ context.Context, c Call) (any, error) {
				var how struct {
					Left bool `json:"left"`
				}
				if c.Name("name") == "none" {
					return nil, NotFound("thing", "none")
				}
				return map[string]any{"name": c.Name("name")}, c.Body(&how)
			}},
			{Path: "fail", Do: func(context.Context, Call) (any, error) { return nil, errors.New("no luck") }},
			{Path: "slow", Do: func(ctx context.Context, _ Call) (any, error) {
				r.begun <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			}},
		},
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// ask fails the test when there is no answer, or another status than wanted.
func (r *rig) ask(want int, method, path, body string) string {
	r.t.Helper()
	status, answer, err := ask(r.Path(), method, path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	if status != want {
		r.t.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

// code is the code of a refusal.
func code(t *testing.T, answer string) string {
	t.Helper()
	var a struct {
		Error Refusal `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil || a.Error.Message == "" {
		t.Errorf("no refusal: %v %s", err, answer)
	}
	return a.Error.Code
}
