package transport_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/test/harness"
)

// plan is what live.js does.
type plan struct {
	URL       string `json:"url"`
	Page      string `json:"page"`
	Transport string `json:"transport"`
	Messages  int    `json:"messages"`
	Sends     int    `json:"sends"`
	Requests  int    `json:"requests"`
	To        string `json:"to,omitempty"`
	Lost      bool   `json:"lost"` // a request may be lost, if the client is told
}

// outcome is what it tells.
type outcome struct {
	Opened     int      `json:"opened"`
	Lost       int      `json:"lost"`
	Transports []string `json:"transports"`
	Reasons    []string `json:"reasons"`
}

// client runs the JavaScript client; the function returned waits for its end.
func (r *rig) client(p plan) func() outcome {
	r.t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		r.t.Skip("there is no node")
	}
	script := filepath.Join(harness.Root(), "js/test/live.js")
	// Read, so that the cache of go test knows that the outcome depends on them.
	for _, name := range []string{script, filepath.Join(harness.Root(), "js/guado.js"), filepath.Join(harness.Root(), "js/carriers.js"), filepath.Join(harness.Root(), "js/values.js")} {
		if _, err := os.ReadFile(name); err != nil {
			r.t.Fatal(err)
		}
	}
	p.URL = r.url
	text, err := json.Marshal(p)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, node, "--experimental-websocket", script, string(text))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return func() outcome {
		defer cancel()
		if err := cmd.Wait(); err != nil {
			r.t.Fatalf("the client: %v\n%s", err, complaints.Bytes())
		}
		var o outcome
		if err := json.Unmarshal(out.Bytes(), &o); err != nil {
			r.t.Fatalf("%v: %s", err, out.Bytes())
		}
		return o
	}
}

// sentInOrder wants what the client sent, each once and in order.
func (r *rig) sentInOrder(n int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.sent {
		if string(r.sent[i]) != fmt.Sprint(i) {
			r.t.Fatalf("message %d is %s", i, r.sent[i])
		}
	}
	if len(r.sent) != n {
		r.t.Fatalf("%d messages of %d came", len(r.sent), n)
	}
}

func TestTheBrowserClientLosesNothingWhileItsConnectionsAreCut(t *testing.T) {
	for _, kind := range []string{"websocket", "sse"} {
		t.Run(kind, func(t *testing.T) {
			r := start(t, push.Options{Window: 20 * time.Millisecond, TailBytes: 8 << 20})
			s := r.open("live", push.Owner{})
			p := plan{Page: "live", Transport: kind, Messages: 3000, Sends: 300, Requests: 200}
			wait := r.client(p)
			r.await("opened live")
			for i := range p.Messages {
				r.push("live", i)
				switch i % 500 {
				case 100:
					r.front.cut()
					r.await("opened live")
				case 350:
					s.Detach(push.CodeSlow)
					r.await("opened live")
				}
			}
			o := wait()
			r.sentInOrder(p.Sends)
			if o.Opened < 5 || !slices.Equal(o.Transports, []string{kind}) || !slices.Contains(o.Reasons, "slow") {
				t.Errorf("%+v", o)
			}
			if st := r.hub().Status(); st.Resumed < 12 || st.Anew != (push.Anew{}) {
				t.Errorf("%+v", st)
			}
			r.await("ended live ended")
		})
	}
}

func TestTheBrowserClientDoesNotNoticeThatTheHostStopsAndStarts(t *testing.T) {
	for _, kind := range []string{"websocket", "sse"} {
		t.Run(kind, func(t *testing.T) {
			r := start(t, push.Options{Window: 20 * time.Millisecond, TailBytes: 8 << 20})
			r.open("live", push.Owner{})
			p := plan{Page: "live", Transport: kind, Messages: 600, Sends: 100, Requests: 50, Lost: true}
			wait := r.client(p)
			r.await("opened live")
			for i := range p.Messages {
				r.push("live", i)
				if i%200 == 100 {
					r.restart()
				}
			}
			wait()
			r.sentInOrder(p.Sends)
		})
	}
}

func TestTheBrowserClientTakesTheOtherTransportWhereNoWebSocketPasses(t *testing.T) {
	r := start(t, push.Options{Window: 20 * time.Millisecond})
	r.open("live", push.Owner{})
	r.blocked.Store(true)
	p := plan{Page: "live", Transport: "auto", Messages: 100, Sends: 20, Requests: 20}
	wait := r.client(p)
	r.await("opened live")
	for i := range p.Messages {
		r.push("live", i)
		if i == 50 {
			r.front.cut()
			r.await("opened live")
		}
	}
	if o := wait(); !slices.Equal(o.Transports, []string{"sse"}) {
		t.Errorf("%+v", o)
	}
	r.sentInOrder(p.Sends)
}
