package pages_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
)

func TestAStopInTheMiddleLosesNoMessageThatWasTaken(t *testing.T) {
	r := start(t, nil)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	r.handle = func(c turn) (int, string) {
		if c.Do == exchange.TurnMessage {
			entered <- struct{}{}
			<-release
		}
		return 200, ""
	}
	page, _ := r.open("id=a", `{"path":"/board","class":"Board","args":{"id":7}}`)
	c := r.connect(page, "id=a; x=1", "Origin: http://"+r.addr)
	for i := range 5 {
		c.send("m", fmt.Sprint(i), "")
	}
	c.send("q", `"asked"`, "")
	<-entered
	r.waiting(5) // what was not taken, the client would send again
	patience, cancel := context.WithCancel(context.Background())
	cancel()
	r.restart(patience, func() { close(release) }) // what is cut may still come to its end
	r.await("restored 1", 1)
	r.await("subscribed topic."+page, 1)
	for i := range 5 {
		r.await(fmt.Sprintf("message opened=true %d", i), 1)
	}
	if h := c.dial("id=a"); h["resumed"] != true {
		t.Errorf("hello after the start: %v", h)
	}
	if got := c.numbered(); !strings.Contains(got, `"r":6`) || !strings.Contains(got, `"d":`) {
		t.Errorf("the request that had not begun: %s", got)
	}
	var messages []string
	for _, what := range r.did() {
		if strings.HasPrefix(what, "message") {
			messages = append(messages, what)
		}
	}
	if len(messages) != 5 {
		t.Errorf("each message once: %q", messages)
	}
	if all := r.pages.List(); len(all) != 1 || all[0].Class != "Board" || all[0].Path != "/board" || !all[0].Opened {
		t.Errorf("the page after the start: %+v", all)
	}
}

func TestADamagedFileIsPutAside(t *testing.T) {
	r := start(t, nil)
	r.open("id=a", `{"path":"/board","class":"Board"}`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.pages.Hub().Detach(push.CodeRestart)
	r.pages.Stop(ctx)
	if err := r.pages.Save(r.dir, nil); err != nil {
		t.Fatal(err)
	}
	r.pages.Close()
	file := filepath.Join(r.dir, "pages")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "Board", "Bored", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.make()
	if n, err := r.pages.Restore(r.dir, nil); err == nil || n != 0 {
		t.Errorf("restored %d pages of a damaged file: %v", n, err)
	}
	if _, err := os.Stat(file + ".damaged"); err != nil {
		t.Error(err)
	}
	if all := r.pages.Hub().Sessions(); len(all) != 0 {
		t.Errorf("%d sessions without a page", len(all))
	}
}

// What a stop cut in the middle may have been done: it is not done twice. What it had not
// begun is done after the start, also messages that need no turn.
func TestAStopRepeatsNothingThatHadBegun(t *testing.T) {
	r := start(t, nil)
	r.pages.Declare([]pages.Class{{Name: "Board", Concurrent: []string{"on_message"}}})
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.opened()
	entered, release := make(chan struct{}, 100), make(chan struct{})
	r.set(func(r *rig) {
		r.handle = func(c turn) (int, string) {
			entered <- struct{}{}
			<-release
			c.x.Fail(&exchange.Problem{Status: 503, Code: "stopping", Err: exchange.ErrStarted})
			return -1, ""
		}
	})
	for i := range 20 {
		c.send("m", fmt.Sprint(i), "")
	}
	for range 16 {
		<-entered
	}
	r.waiting(4) // the host takes them one after the other
	over, cancel := context.WithCancel(context.Background())
	cancel()
	r.restart(over, func() {
		r.set(func(r *rig) { r.handle = nil })
		close(release)
	})
	for i := 16; i < 20; i++ {
		r.await(fmt.Sprintf("message opened=true %d", i), 1)
	}
	for _, what := range r.did() {
		for i := range 16 {
			if what == fmt.Sprintf("message opened=true %d", i) {
				t.Errorf("%s was done once more after the start", what)
			}
		}
	}
}

func TestAMessageThatNoWorkerTookBeforeTheStopIsHandledAfterTheStart(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"path":"/","class":"Board"}`)
	c := r.connect(page, "id=a")
	r.await("open opened=false", 1)
	full := &exchange.Problem{Status: 503, Code: "queue_full"}
	r.set(func(r *rig) {
		r.problem = full
		r.serve = func(x *exchange.Exchange) {
			r.note("refused request")
			x.Fail(full)
		}
	})
	c.send("m", "1", "")
	c.send("m", "2", "/to")
	r.await("refused message", 1)
	r.await("refused request", 1)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	r.restart(over, func() {
		r.set(func(r *rig) {
			r.problem = nil
			r.serve = func(x *exchange.Exchange) {
				r.note("request to %s", x.Target)
				r.answer(x, 204, "text/plain", "")
			}
		})
	})
	r.await("message opened=true 1", 1)
	r.await("request to /to", 1)
}

// Messages wait in several lines, and after the start in one: all of them were let in.
func TestAStartTakesAllThatAStopHasSaved(t *testing.T) {
	r := start(t, nil)
	release := make(chan struct{})
	r.pages.Declare([]pages.Class{{Name: "Board"}})
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.await("open opened=false", 1)
	r.set(func(r *rig) {
		r.handle = func(c turn) (int, string) {
			<-release
			c.x.Fail(&exchange.Problem{Status: 503, Code: "stopping"})
			return -1, ""
		}
	})
	const n = 120
	for i := range 60 {
		c.send("m", fmt.Sprint(i), "")
	}
	r.waiting(59) // one is with the application
	r.pages.Declare([]pages.Class{{Name: "Board", Concurrent: []string{"on_message"}}})
	for i := 60; i < n; i++ {
		c.send("m", fmt.Sprint(i), "")
	}
	r.waiting(59 + n - 60 - 16)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	r.restart(over, func() {
		r.set(func(r *rig) { r.handle = nil })
		close(release)
	})
	for i := range n {
		r.await(fmt.Sprintf("message opened=true %d", i), 1)
	}
}

// A write that waits is one after the start too, of a page with a class and of one without.
func TestAWriteThatHadNotBegunBeforeTheStopWritesAfterTheStart(t *testing.T) {
	for opening, opened := range map[string]bool{`{"path":"/","class":"Board"}`: true, `{"path":"/"}`: false} {
		t.Run(opening, func(t *testing.T) {
			r := start(t, nil)
			entered, release := make(chan struct{}, 2), make(chan struct{})
			r.handle = func(c turn) (int, string) {
				if c.Do == exchange.TurnWrite {
					entered <- struct{}{}
					<-release
				}
				return 200, ""
			}
			page, _ := r.open("id=a", opening)
			c := r.connect(page, "id=a")
			c.write(`{"c":1,"w":[{"path":"a","value":1}]}`)
			c.write(`{"c":2,"w":[{"path":"a","value":2}]}`)
			<-entered
			r.waiting(1)
			patience, cancel := context.WithCancel(context.Background())
			cancel()
			r.restart(patience, func() { close(release) })
			if h := c.dial("id=a"); h["resumed"] != true {
				t.Errorf("hello after the start: %v", h)
			}
			for i := 1; i <= 2; i++ {
				if got, want := c.numbered(), fmt.Sprintf(`{"d":null,"r":%d}`, i); got != want {
					t.Errorf("the client hears %s, want %s", got, want)
				}
				r.await(fmt.Sprintf(`write opened=%t {"changes":[{"path":"a","value":%d}],"as":%d}`, opened, i, i), 1)
			}
		})
	}
}
