package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

var (
	testName    = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+|test_\\w+)`")
	testDefined = regexp.MustCompile(`(?m)^\s*(?:func|def|async def) ((?:Test|Fuzz)[A-Z]\w+|test_\w+)\(`)
)

// definedTests are the names of all tests in Go and Python.
func definedTests(t *testing.T) []string {
	t.Helper()
	var all []string
	root := harness.Root()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(d.Name(), "test_"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range testDefined.FindAllStringSubmatch(string(text), -1) {
			all = append(all, m[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTestsThatTheDocumentationNamesExist(t *testing.T) {
	defined := definedTests(t)
	named := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
			named++
			if !slices.Contains(defined, m[1]) {
				t.Errorf("%s names the test %s, which is not there", filepath.Base(page), m[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d tests are named: the search is broken", named)
	}
}

// TestEachTrapOfWSGIHasATestThatNamesIt: docs/traps.md has sixteen lines, numbered, and
// the worker's tests one at least of each number (line 10 is the edge's as well).
func TestEachTrapOfWSGIHasATestThatNamesIt(t *testing.T) {
	defined := definedTests(t)
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "traps.md"))
	if err != nil {
		t.Fatal(err)
	}
	wsgi, _, _ := strings.Cut(string(page), "## ASGI")
	for line := 1; line <= 16; line++ {
		if !strings.Contains(wsgi, fmt.Sprintf("\n| %d | ", line)) {
			t.Errorf("docs/traps.md has no line %d of WSGI", line)
		}
		name := fmt.Sprintf("test_line_%02d_", line)
		if !slices.ContainsFunc(defined, func(test string) bool { return strings.HasPrefix(test, name) }) {
			t.Errorf("no test is called %s…", name)
		}
	}
}

var keyInPage = regexp.MustCompile("`((?:server|limits|timeouts|spool|group|mount)\\.[a-z_0-9]+)`")

// TestKeysThatTheDocumentationNamesExist looks for "server.compression" and for
// "limits.body", which stands for server.limits.body.
func TestKeysThatTheDocumentationNamesExist(t *testing.T) {
	reference, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	table := ""
	for line := range strings.Lines(string(reference)) {
		if rest, ok := strings.CutPrefix(line, "## `"); ok {
			table = strings.Trim(strings.TrimSpace(rest), "[]`")
		}
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			key, _, _ := strings.Cut(rest, "`")
			keys[table+"."+key] = true
		}
	}
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range keyInPage.FindAllStringSubmatch(string(text), -1) {
			if !keys[m[1]] && !keys["server."+m[1]] {
				t.Errorf("%s names the key %s, which is not there", filepath.Base(page), m[1])
			}
		}
	}
}
