package guado_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const keptByHost = "[state]\ndurability = \"host\"\n"

// hostSite serves an application with stores whose state survives the server.
func hostSite(t *testing.T, dir, more string) *site {
	t.Helper()
	return pagesSite(t, dir, "target = \"stores_app:app\"\n"+keptByHost+more)
}

// crashed gives a folder as kill -9 leaves it: what is in the files now, and nothing else.
func crashed(t *testing.T, dir, state string) string {
	t.Helper()
	image := t.TempDir()
	state = filepath.Join(dir, state)
	err := filepath.WalkDir(state, func(path string, f fs.DirEntry, err error) error {
		if err != nil || !f.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(image, strings.TrimPrefix(path, dir))
		return errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, data, 0o600))
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestWhatAClientWasToldIsThereWhenTheServerWasKilled(t *testing.T) {
	dir := t.TempDir()
	s := hostSite(t, dir, "")
	tab := s.browser().tab(`{"path":"/"}`)
	guest := s.browser().tab(`{"path":"/"}`)
	for i := 1; i <= 3; i++ {
		for _, of := range []string{"page", "connection", ""} {
			tab.wantDone(fmt.Sprintf(`{"of":%q,"set":{"x":%d,"cart.items":[{"sku":%d}]},"get":"x"}`, of, i, i), fmt.Sprint(i))
		}
		guest.wantDone(fmt.Sprintf(`{"set":{"x":%d},"get":"x"}`, 10*i), fmt.Sprint(10*i))
		image := crashed(t, dir, "state")
		again := hostSite(t, image, "")
		other := *tab
		tab.goTo(again)
		for _, of := range []string{"page", "connection", ""} {
			other.wantDone(fmt.Sprintf(`{"of":%q,"get":"x"}`, of), fmt.Sprint(i))
			other.wantDone(fmt.Sprintf(`{"of":%q,"get":"cart.items"}`, of), fmt.Sprintf(`[{"sku": %d}]`, i))
		}
		if h := other.dial(); h["t"] != "hello" {
			t.Errorf("the page is gone: %v", h)
		}
		_ = other.conn.Close() // the stop would wait for its goodbye
		if err := again.end(); err != nil {
			t.Fatal(err)
		}
		tab.goTo(s)
	}
}

func TestAGracefulStopLeavesStreamsAsTheyAreAndACrashDoesNot(t *testing.T) {
	dir := t.TempDir()
	s := hostSite(t, dir, "")
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantDone(`{"set":{"x":1},"push":{"n":1},"get":"x"}`, "1")
	if f := tab.numbered(); f["m"] == nil {
		t.Fatalf("no push but %v", f)
	}
	image := crashed(t, dir, "state")
	_ = tab.conn.Close() // the stop would wait for its goodbye
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	again := hostSite(t, dir, "")
	tab.goTo(again)
	if h := tab.dial(); h["resumed"] != true {
		t.Errorf("behind a stop: %v", h)
	}
	tab.wantDone(`{"get":"x"}`, "1")
	_ = tab.conn.Close()
	if err := again.end(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mirror", "pages", "push", "connections"} {
		if _, err := os.Stat(filepath.Join(dir, "state", name)); err == nil {
			t.Errorf("%s was written beside the log", name)
		}
	}
	behind := hostSite(t, image, "")
	tab.goTo(behind)
	if h := tab.dial(); h["t"] != "hello" || h["resumed"] != false || h["why"] != "epoch" {
		t.Errorf("behind a crash: %v", h)
	}
}

func TestStateGoesOnWhenItsDurabilityIsAnother(t *testing.T) {
	dir := t.TempDir()
	s := storeSite(t, dir, "")
	tab := s.browser().tab(`{"path":"/"}`)
	for i, durability := range []string{"host", "worker", "host"} {
		tab.wantDone(fmt.Sprintf(`{"set":{"x":%d},"get":"x"}`, i), fmt.Sprint(i))
		_ = tab.conn.Close()
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		s = storeSite(t, dir, fmt.Sprintf("[state]\ndurability = %q\n", durability))
		tab.goTo(s)
		if h := tab.dial(); h["resumed"] != true {
			t.Errorf("%s: %v", durability, h)
		}
		tab.wantDone(`{"get":"x"}`, fmt.Sprint(i))
	}
	tab.goTo(hostSite(t, crashed(t, dir, "state"), ""))
	tab.wantDone(`{"get":"x"}`, "2")
}

func TestOfADamagedLogOnlyThatPageBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	s := hostSite(t, dir, "")
	tab, other := s.browser().tab(`{"path":"/"}`), s.browser().tab(`{"path":"/"}`)
	tab.wantDone(`{"set":{"x":"first"},"get":"x"}`, `"first"`)
	tab.wantDone(`{"set":{"x":"damaged"},"get":"x"}`, `"damaged"`)
	other.wantDone(`{"set":{"x":"whole"},"get":"x"}`, `"whole"`)
	image := crashed(t, dir, "state")
	logs, err := filepath.Glob(filepath.Join(image, "state", "log", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("%v %v", logs, err)
	}
	data, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.ReplaceAll(data, []byte("damaged"), []byte("demeged"))
	if err := os.WriteFile(logs[0], damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	again := hostSite(t, image, "")
	tab.goTo(again)
	other.goTo(again)
	if h := tab.dial(); h["t"] == "hello" {
		t.Errorf("a page without its store goes on: %v", h)
	}
	if h := other.dial(); h["t"] != "hello" {
		t.Errorf("a page whose store is whole has ended: %v", h)
	}
	other.wantDone(`{"get":"x"}`, `"whole"`)
	if st := again.Status().Kept; st == nil || st.Damaged != 1 || st.Recovered == 0 || st.Error != "" {
		t.Errorf("%+v", st)
	}
}
