package guado_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

// again ends the server and starts the next one, in another phase.
func (m *moving) again(t *testing.T, phase int, more string) {
	t.Helper()
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	m.configure(t, phase, more)
	m.site = siteOf(t, m.dir)
}

func (m *moving) visited(t *testing.T, page int, want string) {
	t.Helper()
	if got := m.visit(t, page); got != want {
		t.Errorf("page %d is visited for the %sth time, not for the %sth:\n%s", page, got, want, m.log.String())
	}
}

func TestAStepBackInTheFileAloneIsTakenByTheNextStart(t *testing.T) {
	for _, durability := range []string{"worker", "host"} {
		for _, below := range []int{3, 0} {
			more := oldRegister + "[state]\ndurability = \"" + durability + "\"\n"
			m := movingSite(t, 3, more)
			m.get("/fill?users=2&connections=3&pages=4")
			m.visited(t, 1, "1")
			if err := m.step(t, 4, more); err != nil {
				t.Fatal(err)
			}
			m.visited(t, 1, "2")
			m.again(t, below, more)
			m.visited(t, 1, "3")
			if !strings.Contains(m.log.String(), "items were given to the register of before") || !strings.Contains(m.get("/"), "\"phase\": "+string(rune('0'+below))) {
				t.Errorf("durability %s, phase %d:\n%s", durability, below, m.log.String())
			}
			if _, err := os.Stat(filepath.Join(m.dir, ".guado", "register")); !os.IsNotExist(err) {
				t.Errorf("the mark of items that are here: %v", err)
			}
			m.again(t, 4, more)
			m.visited(t, 1, "4")
			m.again(t, 4, more)
			m.visited(t, 1, "5")
		}
	}
}

// refuses starts a server that must not serve, and gives why.
func (m *moving) refuses(t *testing.T, phase int, more string, wants ...string) {
	t.Helper()
	m.configure(t, phase, more)
	c, err := guado.Load(filepath.Join(m.dir, "guado.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newSite(t, "")
	log := s.Log
	s.Server = guado.NewResolved(c)
	s.Log, s.Stdout, s.Stderr = log, s.log, s.log
	s.Ready = func(guado.Status) { t.Error("the server serves") }
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = s.Run(ctx)
	if err == nil || errors.Is(err, guado.ErrNeverReady) {
		t.Fatalf("the server served: %v\n%s", err, s.log.String())
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestAServerDoesNotServeBelowPhase4WhatItCannotGiveBack(t *testing.T) {
	m := movingSite(t, 3, oldRegister)
	m.get("/fill?users=2&connections=3&pages=4")
	m.visited(t, 1, "1")
	m.again(t, 4, oldRegister)
	m.visited(t, 1, "2")
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	write(t, m.dir, "register.db.forgetful", "")
	m.refuses(t, 3, oldRegister, "are still here", "data.count", "server.phase = 4")
	m.refuses(t, 3, "", "no worker of group shop can give the items back", "register of [[app]]", filepath.Join(m.dir, ".guado", "register"))
	if err := os.Remove(m.file + ".forgetful"); err != nil {
		t.Fatal(err)
	}
	m.configure(t, 3, oldRegister)
	m.site = siteOf(t, m.dir)
	m.visited(t, 1, "3")
}

func TestWhatWasLostInACrashIsNotTakenForNothingToGiveBack(t *testing.T) {
	m := movingSite(t, 3, oldRegister)
	m.get("/fill?users=2&connections=3&pages=4")
	m.visited(t, 1, "1")
	m.again(t, 4, oldRegister)
	m.visited(t, 1, "2")
	image := crashed(t, m.dir, ".guado")
	if err := m.end(); err != nil {
		t.Fatal(err)
	}
	db, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, image, "register.db", string(db))
	m.dir, m.file = image, filepath.Join(image, "register.db")
	mark := filepath.Join(image, ".guado", "register")
	m.refuses(t, 3, oldRegister, "but lost", "durability", mark, "server.phase = 4")
	if now, err := os.ReadFile(m.file); err != nil || string(now) != string(db) {
		t.Errorf("the register of before was changed: %v", err)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	m.configure(t, 3, oldRegister)
	m.site = siteOf(t, m.dir)
	m.visited(t, 1, "2")
}

func TestNothingOfAStepThatWasNotTakenIsThereAtTheNextOne(t *testing.T) {
	const more = oldRegister + "[state]\ndurability = \"host\"\n"
	m := movingSite(t, 3, more)
	m.get("/fill?users=2&connections=3&pages=4")
	// The last that can fail of a step is to note that it was taken.
	mark := filepath.Join(m.dir, ".guado", "register")
	if err := os.MkdirAll(filepath.Join(mark, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.step(t, 4, more); err == nil || !strings.Contains(err.Error(), mark) {
		t.Fatalf("the step was taken: %v\n%s", err, m.log.String())
	}
	if err := os.RemoveAll(mark); err != nil {
		t.Fatal(err)
	}
	for _, later := range []bool{false, true} {
		// Fewer items than before: the others have ended meanwhile.
		m.get("/fill?users=1&connections=1&pages=1")
		if later {
			m.get("/fill?users=1&connections=1&pages=0")
		}
		if err := m.step(t, 4, more); err != nil {
			t.Fatal(err)
		}
		if err := m.step(t, 3, more); err != nil {
			t.Fatal(err)
		}
		want := `["connection c000000000000000000000", "page p000000000000000000000", "user user0"]`
		if later {
			want = `["connection c000000000000000000000", "user user0"]`
		}
		if got := m.get("/names"); got != want {
			t.Errorf("what is there behind the steps: %s\n%s", got, m.log.String())
		}
	}
}

func TestARegisterOfSomeKindsAloneIsGivenThoseBack(t *testing.T) {
	const more = "register = \"register_app:Names\"\n"
	m := movingSite(t, 3, more)
	m.get("/fill?users=2&connections=0&pages=0")
	want := `["user user0", "user user1"]`
	m.browser().tab(`{"path":"/"}`) // a connection and a page that the register does not keep
	for _, phase := range []int{4, 3} {
		if err := m.step(t, phase, more); err != nil {
			t.Fatalf("to phase %d: %v\n%s", phase, err, m.log.String())
		}
		if got := m.get("/names"); got != want {
			t.Errorf("in phase %d the register has %s, not %s", phase, got, want)
		}
	}
	if err := m.step(t, 4, "register = \"register_app:Wrong\"\n"); err == nil || !strings.Contains(err.Error(), "['session']: there are user, connection, page") {
		t.Errorf("a kind that there is not: %v", err)
	}
	m.get("/fill?users=0&connections=1&pages=0")
	if err := m.step(t, 4, more); err == nil || !strings.Contains(err.Error(), "its kinds are user") {
		t.Errorf("an item of a kind that the register does not keep: %v", err)
	}
}

func TestWhoWasLoggedInBeforePhase0IsNotBehindIt(t *testing.T) {
	for _, durability := range []string{"worker", "host"} {
		more := "[state]\ndurability = \"" + durability + "\"\n"
		m := movingSite(t, 3, more)
		tab := m.browser().tab(`{"path":"/"}`)
		_ = tab.conn.Close() // the stop would wait for its goodbye
		connections := func() int { return m.Status().Identity.Connections }
		m.again(t, 3, more)
		if n := connections(); n != 1 {
			t.Errorf("behind a restart there are %d connections", n)
		}
		// Another site in the same folder is none of its business.
		write(t, m.dir, "other.toml", "[server]\nlisten = [\"127.0.0.1:0\"]\n[[mount]]\npath = \"/\"\nstatic = \".\"\n")
		if err := m.end(); err != nil {
			t.Fatal(err)
		}
		c, err := guado.Load(filepath.Join(m.dir, "other.toml"))
		if err != nil {
			t.Fatal(err)
		}
		beside, _ := newSite(t, "")
		log := beside.Log
		beside.Server = guado.NewResolved(c)
		beside.Log = log
		beside.run()
		if err := beside.end(); err != nil {
			t.Fatal(err)
		}
		m.site = siteOf(t, m.dir)
		if n := connections(); n != 1 {
			t.Errorf("behind another site there are %d connections", n)
		}
		m.again(t, 0, more)
		m.again(t, 3, more)
		if n := connections(); n != 0 {
			t.Errorf("behind phase 0 there are %d connections\n%s", n, m.log.String())
		}
	}
}

// Clients of pages that come out of a register have been there long ago: they are not like new
// ones, which robots may ask for.
func TestPagesOfTheRegisterOfBeforeAreNotHeldToBeNew(t *testing.T) {
	const more = oldRegister + "[push]\nunclaimed = \"1s\"\nnew_pages = 5\n"
	m := movingSite(t, 3, more)
	m.get("/fill?users=2&connections=4&pages=40")
	if err := m.step(t, 4, more); err != nil {
		t.Fatalf("%v\n%s", err, m.log.String())
	}
	m.Advance(5 * time.Minute)
	for page := range 40 {
		m.visited(t, page, "1")
	}
}
