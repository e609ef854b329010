package guado_test

import (
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
func crashed(t *testing.T, dir string) string {
	t.Helper()
	image := t.TempDir()
	state := filepath.Join(dir, "state")
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
		image := crashed(t, dir)
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
