package pages_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/pages"
)

func TestMessagesReachTheClassInTheirOrderAndOneAtATime(t *testing.T) {
	r := start(t, nil)
	var inside atomic.Int32
	r.handle = func(c turn) (int, string) {
		if inside.Add(1) > 1 {
			t.Error("two turns of a page at once")
		}
		defer inside.Add(-1)
		if c.Do == exchange.TurnRequest {
			return 200, string(c.Data)
		}
		return 200, ""
	}
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	for i := range 20 {
		c.send("m", fmt.Sprint(i), "")
	}
	id := c.send("q", `{"sum":true}`, "")
	if got, want := c.numbered(), fmt.Sprintf(`{"d":{"sum":true},"r":%d}`, id); got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	var got []string
	for _, what := range r.did() {
		if strings.HasPrefix(what, "message") {
			got = append(got, what)
		}
	}
	for i := range 20 {
		if want := fmt.Sprintf("message opened=true %d", i); i >= len(got) || got[i] != want {
			t.Fatalf("messages came as %q", got)
		}
	}
}

func TestAConcurrentHandlerWaitsForNoTurn(t *testing.T) {
	r := start(t, nil)
	r.pages.Declare([]pages.Class{{Name: "Board", Concurrent: []string{"on_message"}}})
	release := make(chan struct{})
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.opened()
	r.set(func(r *rig) {
		r.handle = func(c turn) (int, string) {
			if string(c.Data) == `"wait"` {
				<-release
			}
			return 200, string(c.Data)
		}
	})
	first := c.send("q", `"wait"`, "")
	second := c.send("q", `"now"`, "")
	if got, want := c.numbered(), fmt.Sprintf(`{"d":"now","r":%d}`, second); got != want {
		t.Errorf("first reply %s, want %s", got, want)
	}
	close(release)
	if got, want := c.numbered(), fmt.Sprintf(`{"d":"wait","r":%d}`, first); got != want {
		t.Errorf("second reply %s, want %s", got, want)
	}
}

// hold has the application answer requests when it is released; it says when one has come.
func (r *rig) hold() (release chan struct{}, entered <-chan struct{}) {
	release = make(chan struct{})
	came := make(chan struct{}, 100)
	r.handle = func(c turn) (int, string) {
		if c.Do == exchange.TurnRequest {
			came <- struct{}{}
			<-release
		}
		return 200, ""
	}
	return release, came
}

func TestAMailboxThatIsFullRefusesAndTheClientIsTold(t *testing.T) {
	r := start(t, func(o *pages.Options) { o.Push.Calls = 1000 })
	release, entered := r.hold()
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	c.send("q", "0", "")
	<-entered
	for range 64 {
		c.send("q", "1", "")
	}
	over := c.send("q", "2", "")
	want := fmt.Sprintf(`{"e":{"code":"busy","message":"too many messages wait for this page"},"r":%d}`, over)
	if got := c.numbered(); got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	close(release)
	for range 65 {
		c.numbered()
	}
}

func TestARequestWhoseWorkerDiedIsLostAndTheObjectIsMadeAnew(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.await("open opened=false", 1)
	r.set(func(r *rig) { r.handle = func(turn) (int, string) { return 0, "" } })
	id := c.send("q", "1", "")
	if got, want := c.numbered(), fmt.Sprintf(`{"e":{"code":"lost","message":"its worker died: it may have been done, or not"},"r":%d}`, id); got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	r.set(func(r *rig) { r.handle = nil })
	r.pages.Reopen()
	r.await("open opened=true", 1)
}

func TestAMessageThatNoWorkerCanTakeNowWaits(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.await("open opened=false", 1)
	r.set(func(r *rig) { r.problem = &exchange.Problem{Status: 503, Code: "queue_full"} })
	c.send("m", "1", "")
	r.await("refused message", 2)
	r.set(func(r *rig) { r.problem = nil })
	r.await("message opened=true 1", 1)
}

func TestTheEndOfAPageIsItsClassesLastTurn(t *testing.T) {
	r := start(t, nil)
	var why atomic.Value
	r.handle = func(c turn) (int, string) {
		if c.Do == exchange.TurnClose {
			why.Store(c.Why)
		}
		return 200, ""
	}
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	c.send("m", "1", "")
	c.write(`{"t":"bye"}`)
	r.await("close opened=true", 1)
	if did := r.did(); !slices.Equal(did, []string{"open opened=false", "message opened=true 1", "close opened=true"}) || why.Load() != "ended" {
		t.Errorf("%q, because %v", did, why.Load())
	}
}

func TestMessagesThatWaitForAPageAreBoundedByTheirBytes(t *testing.T) {
	r := start(t, func(o *pages.Options) { o.Push.Message, o.Push.Waiting = 1<<10, 4<<10 })
	release, entered := r.hold()
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	long := `"` + strings.Repeat("x", 1000) + `"`
	c.send("q", long, "")
	<-entered
	for range 4 {
		c.send("q", long, "")
	}
	over := c.send("q", long, "")
	if got := c.numbered(); !strings.Contains(got, `"busy"`) || !strings.Contains(got, fmt.Sprintf(`"r":%d`, over)) {
		t.Errorf("a message over the bytes: %s", got)
	}
	close(release)
	for range 5 {
		c.numbered()
	}
	c.send("q", long, "")
	if got := c.numbered(); strings.Contains(got, "busy") {
		t.Errorf("once there is room again: %s", got)
	}
}

// Also what runs counts: it may only wait for a place behind other pages.
func TestMessagesOfAllPagesTogetherAreBoundedByTheirBytes(t *testing.T) {
	r := start(t, func(o *pages.Options) { o.Held = 4 << 10 })
	release, entered := r.hold()
	long := `"` + strings.Repeat("x", 1000) + `"`
	var all []*client
	for range 5 {
		page, _ := r.open("id=a", `{"class":"Board"}`)
		c := r.connect(page, "id=a")
		c.send("q", long, "")
		if len(all) < 4 {
			<-entered
		}
		all = append(all, c)
	}
	if got := all[4].numbered(); !strings.Contains(got, `"busy"`) {
		t.Errorf("a message over the bytes of all: %s", got)
	}
	close(release)
	for _, c := range all[:4] {
		if got := c.numbered(); strings.Contains(got, "busy") {
			t.Errorf("a message that had room: %s", got)
		}
	}
}

// flight is a turn that the application of the tests runs when it lands.
type flight struct {
	r *rig
	x *exchange.Exchange
}

func (f flight) Land() { f.r.turn(f.x) }

func TestTurnsForWhichNoGoroutineWaitsComeInTheirOrderToo(t *testing.T) {
	var asked, launched, landed atomic.Int32
	var r *rig
	r = start(t, func(o *pages.Options) {
		o.Launch = func(_ string, x *exchange.Exchange) pages.Flight {
			switch asked.Add(1) % 3 {
			case 0:
				return nil // no worker can take it now
			case 1:
				x.Ring() // the answer is faster than this function
			default:
				go x.Ring()
			}
			launched.Add(1)
			return flight{r, x}
		}
		o.Landed = func() { landed.Add(1) }
	})
	r.handle = func(c turn) (int, string) {
		if c.Do == exchange.TurnRequest && string(c.Data) == "13" {
			return 0, "" // its worker died
		}
		return 200, string(c.Data)
	}
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.opened()
	for i := range 30 {
		id := c.send("q", fmt.Sprint(i), "")
		want := fmt.Sprintf(`{"d":%d,"r":%d}`, i, id)
		if i == 13 {
			want = fmt.Sprintf(`{"e":{"code":"lost","message":"its worker died: it may have been done, or not"},"r":%d}`, id)
		}
		if got := c.numbered(); got != want {
			t.Fatalf("reply %s, want %s", got, want)
		}
	}
	if launched.Load() < 15 || landed.Load() != launched.Load() {
		t.Errorf("%d turns were launched, %d have landed", launched.Load(), landed.Load())
	}
}
