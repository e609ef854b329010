package push

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// world is a host, an application and a client that follows the protocol, with a network
// between them that loses whatever is under way whenever it likes.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	hub     *Hub
	session *Session
	handler *told
	dir     string

	// The client.
	conn    *wire
	here    *Attachment // the host's end; nil: no connection
	up      []string    // frames of the client under way
	epoch   string
	at      uint64
	seq     uint64
	queue   []*sending
	known   bool // hello came on this connection
	shown   []int
	replies map[int]int // answers by request

	// The truth.
	pushed  []int // data of messages, in the order of the host
	sent    []int // data that the client sent
	asked   map[int]bool
	handled []int
	open    []Ref
	openOf  map[Ref]int
	anew    int
	trimmed uint64 // by hosts of before
}

type sending struct {
	c       uint64
	data    int
	request bool
	again   bool
}

func (w *world) step() {
	switch w.rnd.IntN(14) {
	case 0, 1, 2:
		w.pushed = append(w.pushed, len(w.pushed))
		pushed(w.t, w.session, len(w.pushed)-1)
	case 3, 4:
		w.send(w.rnd.IntN(2) == 0)
	case 5, 6:
		w.hear(1 + w.rnd.IntN(4))
	case 7, 8:
		w.arrive(1 + w.rnd.IntN(4))
	case 9:
		w.answer()
	case 10:
		w.cut()
	case 11:
		w.connect() // also beside a connection that is still there
	case 12:
		if w.rnd.IntN(6) == 0 {
			w.restart()
		}
	case 13:
		time.Sleep(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
		synctest.Wait()
	}
}

func (w *world) send(request bool) {
	s := &sending{data: len(w.sent), request: request}
	w.sent = append(w.sent, s.data)
	if request {
		w.asked[s.data] = true
	}
	w.queue = append(w.queue, s)
	if w.known {
		w.transmit(s)
	}
}

func (w *world) transmit(s *sending) {
	if s.c == 0 {
		w.seq++
		s.c = w.seq
	}
	key := "m"
	if s.request {
		key = "q"
	}
	w.up = append(w.up, fmt.Sprintf(`{"a":%d,"c":%d,%q:%d}`, w.at, s.c, key, s.data))
}

func (w *world) connect() {
	if w.here != nil && w.rnd.IntN(3) > 0 {
		return
	}
	w.up, w.known = nil, false
	w.conn = &wire{}
	h := Hello{Version: Version, Page: "p", Client: "c"}
	if w.epoch != "" {
		h.Epoch, h.At = w.epoch, w.at
	}
	a, refusal := w.hub.Attach(h, "", w.conn)
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	w.here = a
}

func (w *world) cut() {
	if w.here == nil {
		return
	}
	w.up, w.known, w.conn = nil, false, nil
	if w.rnd.IntN(2) == 0 {
		w.here.Lost() // otherwise the host has not noticed yet
	}
	w.here = nil
}

// arrive brings frames of the client to the host.
func (w *world) arrive(n int) {
	for ; n > 0 && len(w.up) > 0 && w.here != nil; n-- {
		f := w.up[0]
		w.up = w.up[1:]
		if refusal := w.here.Receive([]byte(f)); refusal != nil {
			w.t.Fatalf("%s: %v", f, refusal)
		}
	}
	for e := w.handler.next(); e != nil; e = w.handler.next() {
		m, ok := e.(Message)
		if !ok {
			continue
		}
		var data int
		if err := json.Unmarshal(m.Data, &data); err != nil {
			w.t.Fatal(err)
		}
		w.handled = append(w.handled, data)
		if m.Request {
			w.open = append(w.open, m.Ref)
			w.openOf[m.Ref] = data
		}
	}
}

func (w *world) answer() {
	if len(w.open) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.open))
	r := w.open[i]
	w.open = slices.Delete(w.open, i, i+1)
	if err := w.session.Reply(r, fmt.Appendf(nil, "%d", w.openOf[r])); err != nil {
		w.t.Fatal(err)
	}
}

// restart stops the host cleanly and starts it, with every request answered before.
func (w *world) restart() {
	for len(w.open) > 0 {
		w.answer()
	}
	file := filepath.Join(w.dir, "state")
	if err := w.hub.Save(file); err != nil {
		w.t.Fatal(err)
	}
	w.hub.Close()
	w.trimmed += w.hub.count.trimmed.Load()
	w.hub = New(w.hub.opts, w.handler)
	all, err := w.hub.Restore(file)
	if err != nil || len(all) != 1 {
		w.t.Fatal(err, len(all))
	}
	w.session, w.here, w.known, w.up = all[0], nil, false, nil
	// What the host wrote before its end may still arrive.
}

// hear brings frames of the host to the client.
func (w *world) hear(n int) {
	for ; n > 0 && w.conn != nil; n-- {
		text := w.conn.take()
		if text == "" {
			return
		}
		var f struct {
			greeting
			N, G, R uint64
			M, D    *int
			E       *ReplyError
		}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			w.t.Fatal(err)
		}
		switch {
		case f.Type == "hello":
			w.greet(f.greeting)
		case !w.known && w.here != nil:
			w.t.Fatalf("before the hello came %s", text)
		case f.N > 0:
			if f.N != w.at+1 {
				w.t.Fatalf("frame %d came after %d", f.N, w.at)
			}
			w.at = f.N
			switch {
			case f.M != nil:
				w.shown = append(w.shown, *f.M)
			case f.D != nil:
				w.replied(f.R, *f.D)
			case f.E != nil:
				w.t.Fatalf("request %d failed: %v", f.R, f.E)
			}
		}
		if f.G > 0 {
			w.got(f.G)
		}
	}
}

func (w *world) greet(g greeting) {
	if w.epoch != "" && g.Epoch != w.epoch {
		w.t.Fatalf("the epoch changed from %s to %s", w.epoch, g.Epoch)
	}
	if g.Resumed && g.At != w.at {
		w.t.Fatalf("resumed at %d, the client is at %d", g.At, w.at)
	}
	if !g.Resumed {
		w.anew++
		if trimmed := w.trimmed + w.hub.count.trimmed.Load(); g.Why != WhyTail || trimmed == 0 {
			w.t.Fatalf("not resumed because of %q, with %d frames trimmed", g.Why, trimmed)
		}
		for _, s := range w.queue {
			s.again = s.again || s.request && s.c > 0
		}
	}
	w.epoch, w.at, w.known = g.Epoch, g.At, true
	w.got(g.Got)
	for _, s := range slices.Clone(w.queue) {
		if s.c == 0 || s.c > g.Got || s.again {
			w.transmit(s)
		}
	}
}

func (w *world) got(n uint64) {
	w.queue = slices.DeleteFunc(w.queue, func(s *sending) bool { return s.c > 0 && s.c <= n && !s.request })
}

func (w *world) replied(c uint64, data int) {
	for _, s := range w.queue {
		if s.c == c {
			if s.data != data {
				w.t.Fatalf("request %d got the reply of %d", s.data, data)
			}
			w.replies[data]++
		}
	}
	w.queue = slices.DeleteFunc(w.queue, func(s *sending) bool { return s.c == c })
	w.got(c)
}

// settle lets everything arrive and checks the truth against what was seen.
func (w *world) settle() {
	w.cut()
	for range 5 {
		w.here = nil
		w.connect()
		for range 4 {
			w.hear(1 << 20)
			w.arrive(1 << 20)
			for len(w.open) > 0 {
				w.answer()
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
	}
	if !slices.Equal(w.handled, w.sent) {
		w.t.Fatalf("the client sent %v, the application got %v", w.sent, w.handled)
	}
	for data := range w.asked {
		if w.replies[data] != 1 {
			w.t.Fatalf("request %d got %d replies", data, w.replies[data])
		}
	}
	if w.anew == 0 && !slices.Equal(w.shown, w.pushed) {
		w.t.Fatalf("the host pushed %v, the client got %v", w.pushed, w.shown)
	}
	// With gaps that the client was told of: still in order, and nothing twice.
	if !slices.IsSorted(w.shown) || len(slices.Compact(slices.Clone(w.shown))) != len(w.shown) {
		w.t.Fatalf("the client got %v", w.shown)
	}
}

func TestEveryMessageArrivesOnceAndInOrderWhateverTheNetworkDoes(t *testing.T) {
	for _, limit := range []int{1 << 20, 700} {
		resumed, anew := 0, 0
		for seed := range uint64(60) {
			name := fmt.Sprintf("a tail of %d bytes, seed %d", limit, seed)
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &world{
						t: t, rnd: rand.New(rand.NewPCG(seed, 1)), handler: &told{}, dir: t.TempDir(),
						replies: map[int]int{}, asked: map[int]bool{}, openOf: map[Ref]int{},
					}
					w.hub = New(Options{TailBytes: limit, Calls: 1 << 20, TailAge: time.Hour, Away: time.Hour, Unclaimed: time.Hour, Beat: time.Hour}, w.handler)
					w.session = opened(t, w.hub, "p", Owner{})
					for range 300 {
						w.step()
					}
					w.settle()
					resumed += int(w.session.attaches)
					anew += w.anew
					w.hub.Close()
				})
			})
		}
		t.Logf("a tail of %d bytes: %d connections, %d of them anew", limit, resumed, anew)
		if limit > 1<<10 && anew > 0 {
			t.Errorf("%d connections began anew within the limits of the tail", anew)
		}
		if limit < 1<<10 && anew == 0 {
			t.Error("no connection passed the limits: the test is too tame")
		}
	}
}
