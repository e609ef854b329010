package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// restart ends a server gracefully and starts its successor.
func restart(t *testing.T, s *Server) *Server {
	t.Helper()
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	next := open(t, Options{Dir: s.opts.Dir})
	if err := next.Restore(); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAGracefulStopKeepsWhoIsLoggedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state", "here")
		s := open(t, Options{Dir: dir})
		ann, guest, out := newBrowser(t, s), newBrowser(t, s), newBrowser(t, s)
		c := ann.logsIn("ann")
		g := guest.touches()
		out.logsIn("bob")
		thief := out.twin()
		out.logsOut()
		time.Sleep(time.Minute)
		s = restart(t, s)
		if _, err := os.Stat(filepath.Join(dir, "connections")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file is still there, and would bring back who logs out from now on: %v", err)
		}
		time.Sleep(25 * time.Minute)
		for _, b := range []*browser{ann, guest, out, thief} {
			b.server = s
		}
		if who := ann.is(); who.User != "ann" || who.Connection != c.ID {
			t.Errorf("%+v", who)
		}
		if who := guest.is(); who.Connection != g.ID {
			t.Errorf("%+v", who)
		}
		if who := out.is(); who.User != "" || who.Connection == "" {
			t.Errorf("%+v", who)
		}
		if who := thief.is(); who.Connection+who.User != "" {
			t.Errorf("the cookie of before the logout is good again: %+v", who)
		}
		if st := s.Status(); st.Connections != 3 || st.Users != 1 || st.Guests != 2 {
			t.Errorf("%+v", st)
		}
		time.Sleep(24 * time.Hour) // those that came from a file end as others do
		if st := s.Status(); st.Connections != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestTheTimeOfAStopIsNotHeldAgainstUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{})
		b := newBrowser(t, s)
		b.touches()
		time.Sleep(20 * time.Minute)
		if err := s.Save(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		time.Sleep(8 * time.Hour)
		s = open(t, Options{Dir: s.opts.Dir})
		if err := s.Restore(); err != nil {
			t.Fatal(err)
		}
		b.server = s
		time.Sleep(9 * time.Minute)
		if who := b.is(); who.Connection == "" {
			t.Error("29 minutes idle are 8 hours")
		}
		time.Sleep(31 * time.Minute)
		if who := b.is(); who.Connection != "" {
			t.Error("31 minutes are none")
		}
	})
}

func TestNothingChangesAfterTheConnectionsAreSaved(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.logsIn("ann")
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	b.visits(func(x *exchange.Exchange) {
		v := s.Visit(x.Who.Key)
		_, err := v.Login("bob", "")
		if !errors.Is(err, ErrStopping) || !errors.Is(v.Logout(), ErrStopping) {
			t.Errorf("%v", err)
		}
		answers(t, x)
	})
	x, _ := newBrowser(t, s).asks()
	if _, _, err := s.Touch(x); !errors.Is(err, ErrStopping) {
		t.Errorf("%v", err)
	}
}

func TestADamagedFileOfConnectionsIsPutAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	newBrowser(t, s).logsIn("ann")
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	path := filepath.Join(dir, "connections")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	for name, text := range map[string][]byte{
		"empty":        nil,
		"cut":          good[:len(good)/2],
		"another user": bytes.ReplaceAll(good, []byte(`"ann"`), []byte(`"bob"`)),
		"no user":      unread(t, good),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Dir: dir})
		if err := s.Restore(); err == nil || !strings.Contains(err.Error(), "put aside") {
			t.Errorf("%s: %v", name, err)
		}
		if len(s.Connections()) != 0 {
			t.Errorf("%s: half of it: %v", name, s.Connections())
		}
		if kept, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(kept, text) {
			t.Errorf("%s: %q %v", name, kept, err)
		}
		if err := s.Restore(); err != nil {
			t.Errorf("%s: the next start: %v", name, err)
		}
		s.Close()
	}
}

// unread is such a file with a connection and a user that cannot be.
func unread(t *testing.T, good []byte) []byte {
	t.Helper()
	var all []any
	if err := file.Decode(good, func(data []byte) error {
		all = append(all, json.RawMessage(bytes.ReplaceAll(data, []byte(`"ann"`), []byte(`"a\nn"`))))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "connections")
	if err := file.Write(path, len(all), slices.Values(all)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestADamagedRecordCostsOneConnection(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	ann, bob := newBrowser(t, s), newBrowser(t, s)
	ann.logsIn("ann")
	bob.logsIn("bob")
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	path := filepath.Join(dir, "connections")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(`"ann"`), []byte(`"eve"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if err := s.Restore(); err == nil || !strings.Contains(err.Error(), "2 records are gone") {
		t.Errorf("%v", err)
	}
	ann.server, bob.server = s, s
	if who := ann.is(); who.User != "" {
		t.Errorf("%+v", who)
	}
	if who := bob.is(); who.User != "bob" {
		t.Errorf("%+v", who)
	}
}

func TestTheKeysAreMadeOnceAndUsedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, Options{Dir: dir})
	info, err := os.Stat(filepath.Join(dir, "keys"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, ".gitignore")); string(text) != "*\n" {
		t.Errorf("%q %v", text, err)
	}
	first, err := os.ReadFile(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, s)
	b.logsIn("ann")
	s = restart(t, s)
	b.server = s
	if who := b.is(); who.User != "ann" {
		t.Errorf("%+v", who)
	}
	if second, err := os.ReadFile(filepath.Join(dir, "keys")); err != nil || !bytes.Equal(first, second) {
		t.Errorf("other keys: %v", err)
	}
}

// rewrite changes the file of keys of a server that is not running.
func rewrite(t *testing.T, dir string, change func(k *savedKeys)) {
	t.Helper()
	path := filepath.Join(dir, "keys")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var k savedKeys
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	change(&k)
	if text, err = json.Marshal(k); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherKeyTakesOverWithoutLoggingAnybodyOut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	b, away := newBrowser(t, s), newBrowser(t, s)
	c := b.logsIn("ann")
	away.logsIn("bob")
	before := b.token()
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	rewrite(t, dir, func(k *savedKeys) { k.Keys[0], k.Keys[1] = k.Keys[1], k.Keys[0] })
	s = open(t, Options{Dir: dir})
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	b.server, away.server = s, s
	if who := b.is(); who.User != "ann" || who.Connection != c.ID {
		t.Fatalf("%+v", who)
	}
	if b.token() == before {
		t.Error("it still has the cookie of the old key")
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	rewrite(t, dir, func(k *savedKeys) { k.Keys = k.Keys[:1] }) // the old key is gone
	s = open(t, Options{Dir: dir})
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	b.server, away.server = s, s
	if who := b.is(); who.User != "ann" {
		t.Errorf("%+v", who)
	}
	if who := away.is(); who.Connection != "" {
		t.Errorf("%+v", who)
	}
}

func TestKeysThatAreNoneAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Dir: dir}).Close()
	path := filepath.Join(dir, "keys")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(k *savedKeys){
		"another version": func(k *savedKeys) { k.Version = 2 },
		"none":            func(k *savedKeys) { k.Keys = nil },
		"a short one":     func(k *savedKeys) { k.Keys[1].Secret = k.Keys[1].Secret[:31] },
		"one twice":       func(k *savedKeys) { k.Keys[1].ID = k.Keys[0].ID },
	} {
		rewrite(t, dir, change)
		if s, err := New(Options{Dir: dir}); err == nil {
			s.Close()
			t.Errorf("%s: it starts", name)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "must log in again") {
		if s != nil {
			s.Close()
		}
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{" {
		t.Errorf("%q %v", text, err)
	}
}

func TestTwoServersDoNotShareAStateFolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if other, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		if other != nil {
			other.Close()
		}
		t.Errorf("%v", err)
	}
	s.Close()
	open(t, Options{Dir: dir}).Close()
}
