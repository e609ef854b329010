package push

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// server is a real one: guado serve, with a worker that is killed, asked and told over its
// sockets alone. Its pages have no class: what they are told comes from here, by the admin
// interface, and what they say becomes requests.
type server struct {
	*harness.Server
	t      *testing.T
	dir    string
	admin  *http.Client
	pushed sync.Map // by page: *counter
}

var errAnswer = errors.New("that is not what was to come")

// counter numbers the messages of a page.
type counter struct {
	mu sync.Mutex // held while a message is pushed, so that numbers are in order
	n  uint64
}

func startServer(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{t: t, dir: dir}
	config := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
phase = 3
state_dir = %[1]q
log_level = "warn"
[admin]
socket = "%[1]s/admin.sock"
[metrics]
listen = "unix:%[1]s/metrics.sock"
[push]
tail = "16KiB"
tail_age = "1h"
waiting = "64KiB"
message = "32KiB"
beat = "2s"
window = "10ms"
[[app]]
name = "heard"
kind = "wsgi"
target = "heard:app"
dir = %[2]q
python = %[3]q
env = { HEARD = "%[1]s/heard" }
[[mount]]
app = "heard"
`, dir, harness.Apps(), harness.Python(t, "newest"))
	// So that garbage does not look like what is kept.
	s.Server = harness.Start(t, harness.Options{Config: config, Env: []string{"GOGC=20"}})
	s.admin = &http.Client{Timeout: patience, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, strings.TrimSuffix(addr, ":80")+".sock"))
		},
	}}
	t.Cleanup(s.admin.CloseIdleConnections)
	return s
}

// open makes a page, of a browser of its own.
func (s *server) open(posts *http.Client) (page, cookie string, err error) {
	res, err := posts.Post(s.URL+"/_guado/page", "application/json", strings.NewReader(`{"path":"/"}`)) //nolint:noctx // it has a timeout
	if err != nil {
		return "", "", err
	}
	var made struct{ Page string }
	err = json.NewDecoder(res.Body).Decode(&made)
	_ = res.Body.Close() // it was read
	if err != nil || len(res.Cookies()) != 1 {
		return "", "", fmt.Errorf("no page: %s: %w", res.Status, errors.Join(err, errAnswer))
	}
	s.pushed.Store(made.Page, &counter{})
	return made.Page, res.Cookies()[0].Name + "=" + res.Cookies()[0].Value, nil
}

// push sends the page's next message, with pad bytes beside, and says whether its client
// is there.
func (s *server) push(page string, pad int) (last uint64, connected bool, err error) {
	v, _ := s.pushed.Load(page)
	c := v.(*counter)
	c.mu.Lock()
	defer c.mu.Unlock()
	body := fmt.Appendf(nil, `{"to":{"page":%q},"data":{"i":%d,"pad":%q}}`, page, c.n+1, strings.Repeat("x", pad))
	res, err := s.admin.Post("http://admin/v1/push", "application/json", bytes.NewReader(body)) //nolint:noctx // it has a timeout
	if err != nil {
		return 0, false, err
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // it was read
	var sent struct{ Pages, Connected int }
	if err == nil {
		err = json.Unmarshal(text, &sent)
	}
	if err != nil || res.StatusCode != http.StatusOK || sent.Pages != 1 {
		return 0, false, fmt.Errorf("push to %s: %s %s: %w", page, res.Status, text, errors.Join(err, errAnswer))
	}
	c.n++
	return c.n, sent.Connected == 1, nil
}

// flood sends to a client that does not read until the server lets it go.
func (s *server) flood(page string) (last uint64, err error) {
	for range 4096 {
		last, there, err := s.push(page, messageLimit/2)
		if err != nil || !there {
			return last, err
		}
	}
	return 0, wrong("64 MiB wait for a client that does not read")
}

// figure is one of the server's metrics.
func (s *server) figure(name string) int64 {
	s.t.Helper()
	res, err := s.admin.Get("http://metrics/metrics") //nolint:noctx // it has a timeout
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if text, is := strings.CutPrefix(lines.Text(), name+" "); is {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return int64(value)
		}
	}
	s.t.Fatalf("there is no %s", name)
	return 0
}

// come lets so many clients come so many times, while their pages are sent messages and the
// worker is killed.
func (s *server) come(seed uint64, n, visits, messages, kills int) {
	t := s.t
	y := &tally{codes: map[int]int{}, flood: s.flood}
	w := &world{t: t, tally: y, seed: seed}
	posts := newPosts()
	defer posts.CloseIdleConnections()
	defer s.admin.CloseIdleConnections()
	for i := range n {
		c := &client{
			addr: s.Addr, posts: posts, rand: rand.New(rand.NewPCG(seed, uint64(i))), tally: y, //nolint:gosec // it must be repeatable
			instance: "instance", asked: map[uint64]uint64{}, replied: map[uint64]bool{}, blank: true,
			// A client that does not read costs some megabytes: the kernel keeps them.
			endings: []ending{cut, cut, cut, reset, reset, vanish, malform, malform, malform, stall},
		}
		var err error
		if c.page, c.cookie, err = s.open(posts); err != nil {
			t.Fatal(err)
		}
		w.clients = append(w.clients, c)
	}
	pushes := make(chan error, 1)
	go func() { pushes <- s.mischief(w, messages, kills) }()
	w.each("mischief", func(c *client) error {
		for range visits {
			if err := c.visit(0); err != nil {
				return err
			}
		}
		return nil
	})
	if err := <-pushes; err != nil {
		t.Fatal(err)
	}
	w.each("settle", func(c *client) error { return s.settle(c) })
	s.heard(w, kills)
	w.each("leave", func(c *client) error {
		return post(posts, c.addr, c.cookie, []byte(`{"t":"bye","page":"`+c.page+`","client":"`+c.instance+`"}`))
	})
	for _, half := range y.kept {
		half.close()
	}
	if n := s.figure(`guado_push_pages{state="connected"}`) + s.figure(`guado_push_pages{state="away"}`); n != 0 {
		t.Errorf("%d pages are left", n)
	}
	t.Logf("%d clients, %d connections: %d resumed, %d anew; %d slow, %d half-open, %d of %d malformed punished; closed with %v", n,
		y.opened.Load(), y.resumed.Load(), y.anew.Load(), y.stalls.Load(), y.vanished.Load(), y.punished.Load(), y.malformed.Load(), y.codes)
	for what, count := range map[string]int64{"resumed": y.resumed.Load(), "begun anew": y.anew.Load(), "slow": y.stalls.Load(), "punished": y.punished.Load()} {
		if count == 0 && kills > 0 {
			t.Errorf("nobody was %s: the test tests nothing", what)
		}
	}
}

// mischief pushes to pages by chance, and kills the worker now and then.
func (s *server) mischief(w *world, messages, kills int) error {
	r := rand.New(rand.NewPCG(w.seed, 1<<40)) //nolint:gosec // it must be repeatable
	total := messages * len(w.clients)
	for i := range total {
		if _, _, err := s.push(w.clients[r.IntN(len(w.clients))].page, r.IntN(100)); err != nil {
			return err
		}
		if kills > 0 && i%(total/(kills+1)) == total/(kills+1)-1 && w.tally.restarts.Load() < int64(kills) {
			w.tally.restarts.Add(1)
			for _, pid := range s.Workers() {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					return err
				}
			}
		}
		if i%len(w.clients) == 0 {
			time.Sleep(50 * time.Millisecond) // spreads them over the visits
		}
	}
	return nil
}

// settle: what the page was pushed is there, and what its client has asked is answered.
func (s *server) settle(c *client) error {
	// Whether it resumes is decided with the first connection; the next message then says
	// where it is, for snapshots of its page hold nothing.
	wire, err := c.connect()
	if err != nil {
		return err
	}
	wire.close()
	want, _, err := s.push(c.page, 0)
	for err == nil && (c.seen < want || len(c.asked) > 0 || len(c.pending) > 0) {
		err = c.visit(want)
	}
	if err == nil && c.seen > want {
		err = wrong("message %d of %d", c.seen, want)
	}
	return err
}

// heard: the application has nothing twice, all that it has answered, and all that it was
// told but for what was under way when its worker was killed.
func (s *server) heard(w *world, kills int) {
	text, err := os.ReadFile(filepath.Join(s.dir, "heard"))
	if err != nil {
		s.t.Fatal(err)
	}
	times := map[string]int{}
	for line := range strings.Lines(string(text)) {
		times[strings.TrimSpace(line)]++
	}
	missing := 0
	for _, c := range w.clients {
		for i := uint64(1); i <= c.told; i++ {
			switch n := times[fmt.Sprintf(`%s {"i":%d}`, c.page, i)]; {
			case n > 1:
				s.t.Errorf("page %s: the application has message %d %d times", c.page, i, n)
			case n == 0 && c.replied[i]:
				s.t.Errorf("page %s: message %d was answered, and the application does not have it", c.page, i)
			case n == 0:
				missing++
			}
		}
	}
	// Each page sends messages one after the other, and at most 16 requests at once.
	if most := kills * len(w.clients) * 17; missing > most {
		s.t.Errorf("%d messages are lost with %d workers", missing, kills)
	}
	s.t.Logf("%d messages were lost with %d workers", missing, kills)
}

// stress runs it all, and wants goroutines and memory back where they were.
func (s *server) stress(seed uint64, n, visits, messages, kills int) {
	s.come(seed, 10, 1, 3, 0)
	var routines, memory int64
	settled := func() bool { // what a connection leaves is gone some moments after it
		before := routines
		routines, memory = s.figure("go_goroutines"), s.figure("go_memstats_heap_alloc_bytes")
		return routines == before
	}
	s.eventually("nothing moves", settled)
	s.come(seed+1, n, visits, messages, kills)
	s.eventually(fmt.Sprintf("the server has %d goroutines and %d KiB again", routines, memory>>10), func() bool {
		// Guests are remembered for half an hour, and idle goroutines of pages kept for the next
		// messages: as many as were at work at once, so no more than there were pages, and 64 at most.
		return s.figure("go_goroutines") <= routines+8+min(64, int64(n)) && s.figure("go_memstats_heap_alloc_bytes") <= memory+4<<20+int64(n)<<10
	})
	s.t.Logf("%d goroutines and %d KiB before, %d and %d after", routines, memory>>10, s.figure("go_goroutines"), s.figure("go_memstats_heap_alloc_bytes")>>10)
}

func (s *server) eventually(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Errorf("not so: %s; now %d goroutines, %d KiB", what, s.figure("go_goroutines"), s.figure("go_memstats_heap_alloc_bytes")>>10)
			s.Signal(syscall.SIGQUIT) // it says what its goroutines do, in the log
			s.Wait(patience)
			s.t.FailNow()
		}
	}
}

func TestARealServerWhoseWorkerIsKilledLosesNoPushAndKeepsNothing(t *testing.T) {
	startServer(t).stress(chosen(t), 60, 4, 20, 2)
}

func TestSoakARealServerWhoseWorkerIsKilledLosesNoPushAndKeepsNothing(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	startServer(t).stress(chosen(t), 1500, 8, 40, 10)
}
