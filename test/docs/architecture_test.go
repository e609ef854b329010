package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// file is one source of the product: no test, and nothing that only tests use.
type file struct {
	name string // "internal/pool/pump.go"
	text string
}

// sources gives the files with this ending.
func sources(t *testing.T, suffix string) []file {
	t.Helper()
	var all []file
	root := harness.Root()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && name != "." || slices.Contains([]string{
				"test", "bench", "examples", "tools", "dist", "bin", "internal/link/linktest", "python/tests",
				"python/guado/csrc/tests", "testdata", "node_modules",
			}, name) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, suffix) && !strings.HasSuffix(name, "_test.go") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all = append(all, file{name, string(text)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatalf("no %s was found", suffix)
	}
	return all
}

// section gives a chapter of a page, from its heading to the next of the same level.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no chapter %q", page, heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// firstCells gives what is in backquotes in the first cell of each row of a table.
func firstCells(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// compare wants the same names on both sides.
func compare(t *testing.T, what string, documented, real []string) {
	t.Helper()
	for _, name := range real {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: %s is not in the documentation", what, name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(real, name) {
			t.Errorf("%s: the documentation names %s, which is not so any more", what, name)
		}
	}
}

func add(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

func TestEachPackageIsOnTheMap(t *testing.T) {
	real := []string{"internal/link/linktest"}
	for _, f := range sources(t, ".go") {
		if dir := filepath.ToSlash(filepath.Dir(f.name)); dir != "." {
			real = add(real, dir)
		}
	}
	var named []string
	for _, name := range firstCells(section(t, "ARCHITECTURE.md", "Packages")) {
		if name != "guado" && !strings.HasPrefix(name, "python/guado") && name != "protocol" {
			named = append(named, name)
		}
	}
	compare(t, "packages", named, real)
}

// startsGoroutine reports whether a node makes something run on its own: a go
// statement, the Go method of a wait group, or a function that waits for time or a
// context.
func startsGoroutine(n ast.Node) bool {
	if _, ok := n.(*ast.GoStmt); ok {
		return true
	}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	called, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (called.Sel.Name == "Go" && len(call.Args) == 1 || called.Sel.Name == "AfterFunc")
}

func TestEachGoroutineIsInTheTable(t *testing.T) {
	var real []string
	for _, f := range sources(t, ".go") {
		tree, err := parser.ParseFile(token.NewFileSet(), f.name, f.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if n != nil && startsGoroutine(n) {
				real = add(real, f.name)
			}
			return true
		})
	}
	compare(t, "goroutines", firstCells(section(t, "ARCHITECTURE.md", "Goroutines of the host")), real)
}

var (
	startsThread = regexp.MustCompile(`\bgd_thread_start\(&|\bpthread_create\(&id|\bthreading\.Thread\(`)
	goLock       = regexp.MustCompile(`\bsync\.(RW)?Mutex\b`)
	cLock        = regexp.MustCompile(`(?m)^\s*(static )?pthread_mutex_t \w+( =|;)`)
)

func matching(t *testing.T, pattern *regexp.Regexp, suffixes ...string) []string {
	t.Helper()
	var all []string
	for _, suffix := range suffixes {
		for _, f := range sources(t, suffix) {
			if pattern.MatchString(f.text) {
				all = add(all, f.name)
			}
		}
	}
	return all
}

func TestEachThreadIsInTheTable(t *testing.T) {
	compare(t, "threads", firstCells(section(t, "ARCHITECTURE.md", "Threads of a worker")),
		matching(t, startsThread, ".c", ".py"))
}

func TestEachLockIsInTheTable(t *testing.T) {
	var named []string
	for _, name := range firstCells(section(t, "ARCHITECTURE.md", "Locks")) {
		if strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".c") || strings.HasSuffix(name, ".h") {
			named = add(named, name)
		}
	}
	real := append(matching(t, goLock, ".go"), matching(t, cLock, ".c", ".h")...)
	compare(t, "locks", named, real)
}

var mentioned = regexp.MustCompile("`((?:internal|cmd|python|protocol|test|docs)/[\\w./-]+\\.(?:go|c|h|py|md|txt))`")

// TestFilesThatTheDocumentationNamesExist looks at all pages: a file that moved takes
// its readers with it.
func TestFilesThatTheDocumentationNamesExist(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mentioned.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(harness.Root(), m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", filepath.Base(page), m[1])
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", filepath.Base(page), m[1])
			}
		}
	}
}

// pages are all of the documentation.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "protocol/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(harness.Root(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}
