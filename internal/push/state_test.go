package push

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/statefile"
)

// saved writes a hub with some history and gives the file.
func saved(t testing.TB, file string) []byte {
	t.Helper()
	h := New(Options{}, &told{})
	defer h.Close()
	for _, page := range []string{"one", "two|p01"} {
		s := opened(t, h, page, Owner{User: "ada", Connection: "k"})
		w := &wire{}
		a, refusal := h.Attach(Hello{Page: page, Client: "c"}, "k", w)
		if refusal != nil {
			t.Fatal(refusal)
		}
		for i := range 3 {
			pushed(t, s, strings.Repeat("é<&", i))
		}
		received(t, a, `{"c":1,"q":0,"a":1}`)
		received(t, a, `{"c":2,"q":0}`)
		if err := s.Reply(Ref{1, 1}, []byte(`{"done":true}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Save(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWhatWasSavedIsRestoredOnceAndOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions")
	saved(t, file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	h := New(Options{}, &told{})
	defer h.Close()
	all, err := h.Restore(file)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d sessions, %v", len(all), err)
	}
	for _, s := range all {
		st := s.Status()
		// Frames 1 to 4 were sent, 1 acknowledged; the fifth says that request 2 is lost.
		if st.Last != 5 || st.Acked != 1 || st.Tail != 4 || st.Got != 2 || st.Requests != 0 || st.User != "ada" {
			t.Errorf("%+v", st)
		}
	}
	if len(h.User("ada")) != 2 || len(h.Connection("k")) != 2 {
		t.Error("they are not found by their owner")
	}
	again := New(Options{}, &told{})
	defer again.Close()
	if all, err := again.Restore(file); err != nil || len(all) != 0 {
		t.Errorf("a second time: %d sessions, %v", len(all), err)
	}
	if rest, err := os.ReadDir(filepath.Dir(file)); err != nil || len(rest) != 0 {
		t.Errorf("left over: %v, %v", rest, err)
	}
}

func TestLongMessagesAreRestoredWhateverTheConfigurationAllows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions")
	o := Options{TailBytes: 64 << 20, Message: 16 << 20}
	h := New(o, &told{})
	defer h.Close()
	s := opened(t, h, "long", Owner{})
	for range 2 {
		pushed(t, s, strings.Repeat("x", 9<<20))
	}
	if err := h.Save(file); err != nil {
		t.Fatal(err)
	}
	next := New(o, &told{})
	defer next.Close()
	all, err := next.Restore(file)
	if err != nil || len(all) != 1 || all[0].Status().Tail != 2 {
		t.Fatalf("%d sessions, %v", len(all), err)
	}
}

func TestAfterSaveNothingChangesAnyMore(t *testing.T) {
	h := New(Options{}, &told{})
	defer h.Close()
	s := opened(t, h, "p", Owner{})
	if err := h.Save(filepath.Join(t.TempDir(), "sessions")); err != nil {
		t.Fatal(err)
	}
	p, err := h.NewMessage([]byte("1"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Push(p); !errors.Is(err, ErrStopping) {
		t.Errorf("%v", err)
	}
}

func TestADamagedFileIsPutAside(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sessions")
	whole := saved(t, file)
	left := map[string]int{"half": 1, "one bit": 1} // of two sessions
	damage := map[string][]byte{
		"empty":        {},
		"half":         whole[:len(whole)*3/5], // sessions come in any order, and one is longer
		"one bit":      append(append(bytes.Clone(whole[:150]), whole[150]^1), whole[151:]...),
		"another file": []byte("hello\n"),
	}
	for name, text := range damage {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			h := New(Options{}, &told{})
			defer h.Close()
			all, err := h.Restore(file)
			if !errors.Is(err, statefile.ErrDamaged) || len(all) != left[name] || len(h.Sessions()) != left[name] {
				t.Errorf("%d sessions, %v", len(all), err)
			}
			if _, err := os.Stat(file + ".damaged"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAFileOfAnotherVersionIsPutAside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions")
	if err := (statefile.Kind{Name: stateFile.Name, Version: 9}).Write(file, 0, func(func(any) bool) {}); err != nil {
		t.Fatal(err)
	}
	h := New(Options{}, &told{})
	defer h.Close()
	if _, err := h.Restore(file); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(file + ".version-9"); err != nil {
		t.Error(err)
	}
}

func TestAFileThatCannotBeWrittenIsAnErrorThatNamesIt(t *testing.T) {
	h := New(Options{}, &told{})
	defer h.Close()
	file := filepath.Join(t.TempDir(), "nowhere", "sessions")
	if err := h.Save(file); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
}

// FuzzState wants that whatever a file holds, sessions of it work, or none is made.
func FuzzState(f *testing.F) {
	f.Add(saved(f, filepath.Join(f.TempDir(), "sessions")))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all []*savedSession
		if stateFile.Decode(text, func(line []byte) error {
			v, err := readSession(line)
			all = append(all, v)
			return err
		}) != nil {
			return
		}
		h := New(Options{}, &told{})
		defer h.Close()
		for _, v := range all {
			s := h.session(v)
			if _, err := h.enter(s); err != nil {
				continue
			}
			pushed(t, s, 1)
			if _, refusal := h.Attach(Hello{Page: v.Page, Client: "c"}, v.Connection, &wire{}); refusal != nil {
				t.Fatal(refusal)
			}
		}
	})
}
