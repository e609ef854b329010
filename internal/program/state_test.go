package program_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/test/harness"
)

// The table of the documentation is the one of the code.
func TestTheDocumentedMovesAreThoseOfTheTable(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs/programs.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range program.States() {
		var moves []string
		for _, to := range s.Moves() {
			moves = append(moves, string(to))
		}
		row := fmt.Sprintf("| `%s` |", s)
		found := false
		for line := range strings.Lines(string(page)) {
			found = found || strings.HasPrefix(line, row) && strings.HasSuffix(line, "| "+strings.Join(moves, ", ")+" |\n")
		}
		if !found {
			t.Errorf("docs/programs.md does not say that %s may become %s", s, strings.Join(moves, ", "))
		}
	}
}
