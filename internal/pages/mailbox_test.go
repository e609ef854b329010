package pages_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/pages"
)

// box is what the handlers of one page were told, and what a model says that they must be.
type box struct {
	mu     sync.Mutex
	inside int
	atOnce bool // two turns at once, or one while a request had the turn
	held   bool
	got    []int
}

// told is a message of the test: its number, and what becomes of it.
type told struct {
	N   int    `json:"n"`
	How string `json:"how"`
}

// enter notes a turn, and says what its handler answers.
func (b *box) enter(c turn) (status int, answer string) {
	b.mu.Lock()
	b.atOnce = b.atOnce || b.inside > 0 || b.held
	b.inside++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.inside--
		b.mu.Unlock()
	}()
	if c.Do != exchange.TurnRequest && c.Do != exchange.TurnMessage {
		return 200, ""
	}
	var m told
	if err := json.Unmarshal(c.Data, &m); err != nil {
		return 500, err.Error()
	}
	b.mu.Lock()
	b.got = append(b.got, m.N)
	b.mu.Unlock()
	switch m.How {
	case "refuses":
		return 400, `{"code":"no","message":"as the test wants it"}`
	case "fails":
		return 500, ""
	case "dies":
		return 0, ""
	}
	return 200, string(c.Data)
}

// mailbox is a page and its client, held against a model.
type mailbox struct {
	t       *rapid.T
	rig     *rig
	page    string
	client  *client
	box     *box
	n       int
	want    []int       // numbers that its handlers must be told, in this order
	replies [][2]string // of requests, in this order: id and what
	release func()
	waiting map[uint64]int // requests that wait while the turn is held: their numbers
	came    []string       // numbered frames that were read already
}

// settled waits until the host has taken all that the client has sent.
func (m *mailbox) settled() {
	m.client.write(`{"p":1}`)
	for {
		f := m.client.next()
		if f["p"] != nil {
			return
		}
		if f["n"] != nil {
			m.came = append(m.came, compact(m.client.t, f))
		}
	}
}

// numbered is the next numbered frame.
func (m *mailbox) numbered() string {
	if len(m.came) == 0 {
		return m.client.numbered()
	}
	first := m.came[0]
	m.came = m.came[1:]
	return first
}

func (m *mailbox) sends() {
	m.n++
	how := rapid.SampledFrom([]string{"answers", "answers", "refuses", "fails", "dies"}).Draw(m.t, "how")
	kind := rapid.SampledFrom([]string{"m", "q"}).Draw(m.t, "kind")
	id := m.client.send(kind, fmt.Sprintf(`{"n":%d,"how":%q}`, m.n, how), "")
	m.want = append(m.want, m.n)
	if kind == "m" {
		return
	}
	code := map[string]string{"answers": "", "refuses": "no", "fails": "failed", "dies": "lost"}[how]
	m.replies = append(m.replies, [2]string{fmt.Sprint(id), code})
	if m.release != nil {
		m.waiting[id] = m.n
	}
}

// holds takes the turn as a request does: all that came before is through by then.
func (m *mailbox) holds() {
	if m.release != nil {
		return
	}
	m.settled()
	giveBack, err := m.rig.pages.Hold(m.client.t.Context(), m.page)
	if err != nil {
		m.t.Fatal(err)
	}
	m.box.mu.Lock()
	m.box.held = true
	m.box.mu.Unlock()
	m.check()
	m.release = giveBack
}

func (m *mailbox) gives() {
	if m.release == nil {
		return
	}
	m.box.mu.Lock()
	m.box.held = false
	m.box.mu.Unlock()
	m.release()
	m.release = nil
	clear(m.waiting)
}

// cancels one that waits: nothing is done of it.
func (m *mailbox) cancels() {
	if len(m.waiting) == 0 {
		return
	}
	ids := make([]uint64, 0, len(m.waiting))
	for id := range m.waiting {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(ids).Draw(m.t, "which")
	m.client.sent++
	m.client.write(fmt.Sprintf(`{"c":%d,"x":%d}`, m.client.sent, id))
	m.settled()
	m.want = slices.DeleteFunc(m.want, func(n int) bool { return n == m.waiting[id] })
	m.replies = slices.DeleteFunc(m.replies, func(r [2]string) bool { return r[0] == fmt.Sprint(id) })
	delete(m.waiting, id)
}

// check holds what the handlers were told against the model.
func (m *mailbox) check() {
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	if !slices.Equal(m.box.got, m.want) || m.box.atOnce {
		m.t.Fatalf("the handlers were told %v, not %v (two at once: %v)", m.box.got, m.want, m.box.atOnce)
	}
}

// TestWhateverComesToAPageItsTurnsAreInOrderAndOneAtATime has messages, requests and holders
// of the turn come to a page, some of which are cancelled, fail, or die.
func TestWhateverComesToAPageItsTurnsAreInOrderAndOneAtATime(t *testing.T) {
	var mu sync.Mutex
	boxes := map[string]*box{}
	var r *rig
	launched := 0
	r = start(t, func(o *pages.Options) {
		o.Push.Calls = 1000
		o.Launch = func(_ string, x *exchange.Exchange) pages.Flight {
			mu.Lock()
			launched++
			how := launched % 3
			mu.Unlock()
			switch how {
			case 0:
				return nil
			case 1:
				x.Ring()
			default:
				go x.Ring()
			}
			return flight{r, x}
		}
		o.Landed = func() {}
	})
	r.handle = func(c turn) (int, string) {
		mu.Lock()
		b := boxes[c.Page]
		if b == nil {
			b = &box{}
			boxes[c.Page] = b
		}
		mu.Unlock()
		return b.enter(c)
	}
	rapid.Check(t, func(rt *rapid.T) {
		page, _ := r.open("id=a", `{"class":"Board"}`)
		mu.Lock()
		b := boxes[page]
		if b == nil {
			b = &box{}
			boxes[page] = b
		}
		mu.Unlock()
		m := &mailbox{t: rt, rig: r, page: page, client: r.connect(page, "id=a"), box: b, waiting: map[uint64]int{}}
		rt.Repeat(map[string]func(*rapid.T){
			"send": func(*rapid.T) { m.sends() }, "send another": func(*rapid.T) { m.sends() },
			"hold": func(*rapid.T) { m.holds() }, "give back": func(*rapid.T) { m.gives() },
			"cancel": func(*rapid.T) { m.cancels() },
		})
		m.gives()
		for _, want := range m.replies {
			var f struct {
				R json.Number
				E struct{ Code string }
			}
			text := m.numbered()
			if err := json.Unmarshal([]byte(text), &f); err != nil || f.R.String() != want[0] || f.E.Code != want[1] {
				rt.Fatalf("reply %s, want one to %s with the code %q", text, want[0], want[1])
			}
		}
		m.holds() // all is through
		m.gives()
		_ = m.client.conn.Close()
	})
}
