package guado_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
