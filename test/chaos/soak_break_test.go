package chaos

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// settings are what reloads change.
type settings struct {
	shop, api, program int // rounds, which their processes are told
	fields             int // over the usual limit
	processes          int // of the executor
}

// text is the configuration with these settings.
func (s settings) text(w *faultWorld) string {
	app := func(name, target string, round int, more string) string {
		return fmt.Sprintf("[[app]]\nname = %q\ntarget = \"mixed:%s\"\ndir = %q\npython = %q\nqueue_wait = \"60s\"\nenv = { ROLE = %q, ROUND = \"%d\", LEDGER = %q }\n%s\n",
			name, target, harness.Apps(), harness.Python(w.t, "newest"), name, round, filepath.Join(w.dir, "ledger"), more)
	}
	mount := func(path, keys string) string { return fmt.Sprintf("[[mount]]\npath = %q\n%s\n", path, keys) }
	return fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\nh2c = true\ngraceful_timeout = \"60s\"\n[server.limits]\nfields = %d\n", 100+s.fields) +
		app("shop", "wsgi", s.shop, "workers = 2\nthreads = 4\nafter = [\"daemon\"]") +
		app("api", "asgi", s.api, "kind = \"asgi\"\nworkers = 2") +
		strings.ReplaceAll(app("steady", "wsgi", 0, ""), "mixed:wsgi", "soak:wsgi") +
		mount("/", "app = \"shop\"") + mount("/api", "app = \"api\"") + mount("/steady", "app = \"steady\"") +
		mount("/late", "app = \"shop\"\nrequest_timeout = \"300ms\"") + mount("/files", fmt.Sprintf("static = %q", w.dir)) +
		fmt.Sprintf("[[executor]]\nname = \"cpu\"\ngroup = \"shop\"\nprocesses = %d\npreload = [\"mixed\"]\n", s.processes) +
		fmt.Sprintf("[[program]]\nname = \"daemon\"\ncommand = [\"sh\", \"-c\", \"echo up; exec sleep 1000\"]\nready = \"log:up\"\nenv = { ROLE = \"program\", ROUND = \"%d\" }\n", s.program) +
		"[[program]]\nname = \"tick\"\ncommand = [\"true\"]\nschedule = \"@every 1s\"\n"
}

func (w *faultWorld) write(text string) {
	if err := os.WriteFile(filepath.Join(w.dir, "guado.toml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// processes are the host's children by what they are.
func (w *faultWorld) processes() map[string][]int {
	all := map[string][]int{}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", w.s.PID))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // the thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			var pid int
			if _, err := fmt.Sscan(field, &pid); err == nil {
				role := roleOf(pid)
				all[role] = append(all[role], pid)
			}
		}
	}
	return all
}

// roleOf tells by its environment what a process is; "" of one that is not yet anything.
func roleOf(pid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // empty of one that has ended
	if string(name) == "guado-guard\n" {
		return "guard"
	}
	environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	_, role, _ := bytes.Cut(environ, []byte("\x00ROLE="))
	role, _, _ = bytes.Cut(role, []byte{0})
	switch {
	case string(role) == "program" && bytes.HasPrefix(line, []byte("sleep")):
		return "program"
	case !bytes.Contains(line, []byte("guado.worker")):
		return ""
	case bytes.Contains(environ, []byte("\x00GUADO_PRELOAD=")):
		return "cpu"
	}
	return string(role)
}

// victim chooses one of the processes of these roles; 0: there is none now.
func (w *faultWorld) victim(r *rand.Rand, roles ...string) int {
	all := w.processes()
	var pids []int
	for _, role := range roles {
		pids = append(pids, all[role]...)
	}
	if len(pids) == 0 {
		return 0
	}
	return pids[r.IntN(len(pids))]
}

// breakThings does one of the faults every few seconds.
func (w *faultWorld) breakThings(ctx context.Context, r *rand.Rand) {
	faults := []struct {
		name string
		do   func(*rand.Rand)
	}{
		{"kill a worker", func(r *rand.Rand) { w.kill(w.victim(r, "shop", "api")) }},
		{"kill a worker", func(r *rand.Rand) { w.kill(w.victim(r, "shop", "api")) }},
		{"kill a process of the executor", func(r *rand.Rand) { w.kill(w.victim(r, "cpu")) }},
		{"kill the program", func(r *rand.Rand) { w.kill(w.victim(r, "program")) }},
		{"kill the guard", func(r *rand.Rand) { w.kill(w.victim(r, "guard")) }},
		{"stop a worker for a while", w.pause},
		{"restart all workers", func(*rand.Rand) { w.s.Signal(syscall.SIGUSR2) }},
		{"reload", w.change}, {"reload", w.change}, {"reload what is wrong", w.misload},
		{"hold the GIL", func(*rand.Rand) { w.single("/spin?s=0.5", http.StatusOK) }},
		{"a request past its deadline", func(*rand.Rand) { w.single("/late/spin?s=2", http.StatusGatewayTimeout) }},
		{"print too much", func(*rand.Rand) { w.single("/shout?n=3000", http.StatusOK) }},
		{"half a request", w.half}, {"a client that leaves", w.leave}, {"bytes that are no HTTP", w.garbage},
	}
	var deck []int // each fault comes once before one comes again
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(300+r.IntN(1700)) * time.Millisecond):
		}
		if len(deck) == 0 {
			deck = r.Perm(len(faults))
		}
		f := faults[deck[0]]
		deck = deck[1:]
		w.t.Logf("%s: %s", time.Now().Format("15:04:05.000"), f.name)
		f.do(r)
	}
}

func (w *faultWorld) kill(pid int) {
	if pid == 0 {
		return
	}
	// Under the lock: whoever fails because of it must find it noted.
	w.mu.Lock()
	defer w.mu.Unlock()
	if syscall.Kill(pid, syscall.SIGKILL) == nil {
		w.killed[pid] = time.Now()
	}
}

func (w *faultWorld) pause(r *rand.Rand) {
	pid := w.victim(r, "shop", "api", "cpu")
	if pid != 0 && syscall.Kill(pid, syscall.SIGSTOP) == nil {
		time.Sleep(time.Duration(100+r.IntN(700)) * time.Millisecond) // how long it stands still
		_ = syscall.Kill(pid, syscall.SIGCONT)                        // it may have been ended
	}
}

// change changes something of the configuration.
func (w *faultWorld) change(r *rand.Rand) {
	s := w.settings
	switch r.IntN(5) {
	case 0:
		s.shop++ // and the executor, which has its environment
	case 1:
		s.api++
	case 2:
		s.fields++
	case 3:
		s.processes = 1 + s.processes%3
	case 4:
		s.program++
	}
	w.reload(s)
}

// reload has other settings taken.
func (w *faultWorld) reload(s settings) {
	w.write(s.text(w))
	if said := w.said("reload ", func() { w.s.Signal(syscall.SIGHUP) }); said != "reload taken" {
		w.t.Errorf("from %+v to %+v: %s", w.settings, s, said)
		return
	}
	w.settings = s
	w.reloads++
}

// misload offers a configuration that must be refused.
func (w *faultWorld) misload(r *rand.Rand) {
	s := w.settings
	s.program++
	text := s.text(w)
	switch r.IntN(3) {
	case 0:
		text = "nonsense = 1\n" + text
	case 1:
		text = strings.Replace(text, "ROLE = \"api\"", "MIXED = \"broken\", ROLE = \"api\"", 1)
	case 2:
		text = strings.Replace(text, "echo up; exec sleep 1000", "exit 1", 1)
	}
	w.write(text)
	if said := w.said("reload ", func() { w.s.Signal(syscall.SIGHUP) }); !strings.HasPrefix(said, "reload refused: ") {
		w.t.Errorf("a configuration that is wrong: %s", said)
	}
}

// single sends one request on a connection of its own.
func (w *faultWorld) single(path string, want int) {
	c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	number, began := w.number(), time.Now()
	res, err := c.Get(w.s.URL + path + "&id=" + number)
	if err != nil {
		w.judge(number, path, began, err)
		return
	}
	_ = res.Body.Close()
	if res.StatusCode != want {
		w.judge(number, path, began, fmt.Errorf("%s instead of %d", res.Status, want))
	}
}

// raw writes to a connection of its own and leaves.
func (w *faultWorld) raw(text []byte) {
	conn, err := net.DialTimeout("tcp", w.s.Addr, 30*time.Second)
	if err != nil {
		w.t.Errorf("no connection: %v", err)
		return
	}
	_, _ = conn.Write(text) // the host may close first
	_ = conn.Close()
}

func (w *faultWorld) half(*rand.Rand) {
	w.raw([]byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf"))
}

func (w *faultWorld) leave(*rand.Rand) {
	w.raw(fmt.Appendf(nil, "GET /big?n=50000000&id=%s HTTP/1.1\r\nHost: x\r\n\r\n", w.number()))
}

func (w *faultWorld) garbage(r *rand.Rand) {
	text := make([]byte, 2000)
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	w.raw(text)
}
