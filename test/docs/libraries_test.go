package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

var major = regexp.MustCompile(`/v[0-9]+$`)

var required = regexp.MustCompile(`(?m)^\t(\S+) v(\S+)$`)

// TestEachLibraryIsJustified wants every direct dependency in ADR 6, with its version.
func TestEachLibraryIsJustified(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(harness.Root(), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("docs/adr/0006-libraries.md")
	modules := required.FindAllStringSubmatch(read("go.mod"), -1)
	if len(modules) < 5 {
		t.Fatalf("%d libraries were found in go.mod: the search is broken", len(modules))
	}
	for _, m := range modules {
		parts := strings.Split(major.ReplaceAllString(m[1], ""), "/")
		if name := parts[len(parts)-1]; !strings.Contains(page, name) {
			t.Errorf("%s is not in ADR 6", m[1])
		}
		if !strings.Contains(page, m[2]) {
			t.Errorf("ADR 6 does not name version %s of %s", m[2], m[1])
		}
	}
}
