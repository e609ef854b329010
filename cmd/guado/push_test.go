package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const pagesConfig = "phase = 3\n[[app]]\ntarget = \"hello\"\n"

// openPage opens a page whose client does not come.
func openPage(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Post(url+"/_guado/page", "application/json", strings.NewReader(`{"path": "/"}`)) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	var opened struct{ Page string }
	if err := json.NewDecoder(res.Body).Decode(&opened); err != nil || opened.Page == "" {
		t.Fatalf("no page: %d %v", res.StatusCode, err)
	}
	return opened.Page
}

func TestPushAndPublishTellWhatBecameOfIt(t *testing.T) {
	dir, s := site(t, map[string]string{"guado.toml": pagesConfig})
	page := openPage(t, s.url)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"push", "--page", page, `{"a": 1}`}, 0, "sent to 1 page, 0 connected\n"},
		{[]string{"push", "--all", "--snapshot", `[]`}, 0, "sent to 1 page, 0 connected\n"},
		{[]string{"push", "--user", "nobody", `1`}, 0, "sent to 0 pages, 0 connected\n"},
		{[]string{"push", "--connection", "none", "--json", `1`}, 0, "{\n  \"pages\": 0,\n  \"connected\": 0\n}\n"},
		{[]string{"push", "--page", page, "--ack", "--timeout", "10ms", `1`}, 1, "sent to 1 page, 0 connected, acknowledged by 0\n"},
		{[]string{"push", "--user", "nobody", "--ack", `1`}, 0, "sent to 0 pages, 0 connected, acknowledged by 0\n"},
		{[]string{"push", "--page", "unknown", `1`}, 1, "guado: there is no such page: \"unknown\" has ended, or never was\n"},
		{[]string{"push", "--all", `text`}, 2, `"text" is no JSON`},
		{[]string{"push", `1`}, 2, "[page user connection all]"},
		{[]string{"push", "--all", "--page", page, `1`}, 2, "[page user connection all]"},
		{[]string{"push", "--page", "", `1`}, 2, "say to whom"},
		{[]string{"push", "--all"}, 2, "one argument of JSON, not 0"},
		{[]string{"publish", "system.broadcast"}, 0, "published to 1 page and 0 applications\n"},
		{[]string{"publish", "invoice.paid", `{"n": 1}`, "--json"}, 0, "{\n  \"pages\": 0,\n  \"workers\": 0\n}\n"},
		{[]string{"publish", "invoice.*", `1`}, 1, `"invoice.*" is no topic: * and > are for patterns`},
		{[]string{"publish", "a", `{`}, 2, `"{" is no JSON`},
		{[]string{"publish"}, 2, "accepts between 1 and 2 arg"},
	} {
		if r := run(t, dir, c.args...); r.code != c.code || !strings.Contains(r.out+r.err, c.says) {
			t.Errorf("%q: %d %s%s", c.args, r.code, r.out, r.err)
		}
	}
	cmd := program(t, dir, "push", "--page", page, "-")
	cmd.Stdin = strings.NewReader("{\n\"a\": 1}\n")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || out.String() != "sent to 1 page, 0 connected\n" {
		t.Errorf("from standard input: %v %s", err, out.String())
	}
}

func TestWhatDoesNotPushSaysWhy(t *testing.T) {
	dir, s := site(t, map[string]string{})
	get(t, s.url)
	if r := run(t, dir, "push", "--all", "1"); r.code != exitFailed || !strings.Contains(r.err, "begins with server.phase = 3") {
		t.Errorf("phase 0: %d %s", r.code, r.err)
	}
	for command, none := range map[string]string{"pages": "no pages: ", "users": "nobody is logged in: "} {
		if r := run(t, dir, command); r.code != 0 || !strings.HasPrefix(r.out, none) || !strings.Contains(r.out, "from server.phase = 3 on") {
			t.Errorf("%s in phase 0: %d %s%s", command, r.code, r.out, r.err)
		}
	}
	if r := run(t, t.TempDir(), "publish", "a"); r.code != exitNoServer {
		t.Errorf("no server: %d %s", r.code, r.err)
	}
}

// asProgram pushes as any program can.
const asProgram = `curl -s -o /dev/null -w "%{http_code}" --unix-socket "${GUADO_PUSH#unix:}" ` +
	`-H "Authorization: Bearer $GUADO_PUSH_TOKEN" -d '{"to": {"all": true}, "data": 1}' http://guado/v1/push`

func TestACommandOfExecMayPushAsLongAsItRuns(t *testing.T) {
	dir, s := site(t, map[string]string{"guado.toml": pagesConfig})
	get(t, s.url)
	if r := run(t, dir, "exec", "hello", "--", "sh", "-c", asProgram); r.code != 0 || r.out != "200" {
		t.Errorf("%d %s %s", r.code, r.out, r.err)
	}
	r := run(t, dir, "exec", "hello", "--", "sh", "-c", `echo "$GUADO_PUSH $GUADO_PUSH_TOKEN"`)
	socket, token, _ := strings.Cut(strings.TrimSpace(r.out), " ")
	if !strings.HasPrefix(socket, "unix:/") || len(token) < 20 {
		t.Fatalf("%q %s", r.out, r.err)
	}
	stale := program(t, dir, "exec", "hello", "--", "sh", "-c", "GUADO_PUSH_TOKEN="+token+"; "+asProgram)
	out, err := stale.Output()
	if err != nil || string(out) != "401" {
		t.Errorf("the token of a command that has ended: %s %v", out, err)
	}
	if text := s.log.String(); strings.Contains(text, token) {
		t.Error("the token is in the log")
	}
	if err := os.Remove(dir + "/state/admin.sock"); err != nil {
		t.Fatal(err)
	}
	if r := run(t, dir, "exec", "hello", "--", "sh", "-c", `echo "none$GUADO_PUSH"`); r.code != 0 || r.out != "none\n" || r.err != "" {
		t.Errorf("without a server: %d %q %q", r.code, r.out, r.err)
	}
}

func TestACheckRefusesHandlersThatTheWorkerWouldRefuse(t *testing.T) {
	const source = `import guado

class Board(guado.Page):
    async def on_message(self, data): return data

@guado.on("a.b")
def hear(topic, data): pass

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
`
	dir, _ := site(t, map[string]string{"board.py": source, "three.toml": "[server]\nphase = 3\n[[app]]\ntarget = \"board\"\n", "none.toml": "[[app]]\ntarget = \"board\"\n"})
	if r := run(t, dir, "check", "--load", "--config", "three.toml"); r.code != exitFailed || !strings.Contains(r.err, "page class board.Board: async def on_message needs an event loop") {
		t.Errorf("phase 3: %d %s%s", r.code, r.out, r.err)
	}
	const note = "board: warning: page class board.Board (and 1 more): nothing comes to it in phase 0; write phase = 3 under [server]\n"
	if r := run(t, dir, "check", "--load", "--config", "none.toml"); r.code != 0 || !strings.Contains(r.err, note) {
		t.Errorf("phase 0: %d %s%s", r.code, r.out, r.err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".guado")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a check wrote into the state_dir: %v", err)
	}
}
