package globalstore

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStopAndAStartKeepAllInItsOrder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Limits: func() Limits { return Limits{} }})
		set(t, s, "z.last", `"<&>`+"\u2028"+`"`, 0)
		set(t, s, "a.n", `{"$int":"0x20000000000000"}`, 0)
		set(t, s, "a.empty", "{}", 0)
		set(t, s, "lease", `{"who":"p01"}`, time.Minute)
		set(t, s, "a.n", "5", 0) // keeps its place
		time.Sleep(40 * time.Second)
		s.Close()
		if err := s.Save(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // the stop takes no time
		next := New(Options{Limits: func() Limits { return Limits{} }})
		defer next.Close()
		if n, err := next.Restore(dir); err != nil || n != 4-1 {
			t.Fatalf("%d values: %v", n, err)
		}
		before, after := string(s.root.json(nil)), string(next.root.json(nil))
		if before != after || next.bytes != s.bytes || next.number != s.number {
			t.Errorf("it was %s (%d bytes, update %d)\nand is %s (%d bytes, update %d)", before, s.bytes, s.number, after, next.bytes, next.number)
		}
		time.Sleep(19 * time.Second)
		synctest.Wait()
		want(t, next, "lease", `{"who":"p01"}`)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want(t, next, "lease", "nothing")
		if _, err := os.Stat(file(dir)); !os.IsNotExist(err) {
			t.Errorf("it would be read twice: %v", err)
		}
	})
}

func TestOfADamagedFileThatIsThereWhichIsWhole(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Limits{})
	set(t, s, "a", "1", 0)
	set(t, s, "b", "2", 0)
	if err := s.Save(dir); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file(dir))
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		text := append([]byte{}, whole...)
		text[at] ^= 4
		if err := os.WriteFile(file(dir), text, 0o600); err != nil {
			t.Fatal(err)
		}
		next := open(t, Limits{})
		n, err := next.Restore(dir)
		if err == nil {
			t.Fatalf("byte %d: nothing is said", at)
		}
		left := 0
		for key, value := range map[string]string{"a": "1", "b": "2"} {
			switch got, _, ok := next.Get(Path{key}); {
			case ok && string(got) != value:
				t.Fatalf("byte %d: %s is %s", at, key, got)
			case ok:
				left++
			}
		}
		if n != left || n == 0 {
			t.Fatalf("byte %d: %d values are told of, and %d are there", at, n, left)
		}
		aside, err := filepath.Glob(file(dir) + ".*")
		if err != nil || len(aside) != 1 {
			t.Fatalf("byte %d: %v %v", at, aside, err)
		}
		if err := os.Remove(aside[0]); err != nil {
			t.Fatal(err)
		}
	}
}
