package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/guado-server/guado"

// allowed says which packages of ours each package may import. A new package must be
// put here, and so must a new import: that is the moment to ask whether it is one of
// a step's internals. Steps of the road (edge, route, pool, the mounts) share the
// exchange and meet in the root package only; link is what pool stands on, and
// supervise starts it.
var allowed = map[string][]string{
	"internal/exchange": {},
	"internal/version":  {},

	"internal/edge": {"internal/exchange", "internal/edge/compress", "internal/edge/framing",
		"internal/edge/http1", "internal/edge/http2", "internal/edge/lane"},
	"internal/edge/compress": {"internal/exchange"},
	"internal/edge/framing":  {"internal/exchange"},
	"internal/edge/http1":    {"internal/exchange", "internal/edge/framing", "internal/edge/lane"},
	"internal/edge/http2":    {"internal/exchange", "internal/edge/framing", "internal/edge/lane"},
	"internal/edge/lane":     {"internal/exchange"},

	"internal/route":     {"internal/exchange"},
	"internal/pool":      {"internal/exchange", "internal/link"},
	"internal/link":      {"internal/exchange"},
	"internal/gohandler": {"internal/exchange"},
	"internal/redirect":  {"internal/exchange"},
	// Steps in front of a mount or of all of them; address is what those share that ask
	// who the client is.
	"internal/access":    {"internal/exchange", "internal/address"},
	"internal/address":   {"internal/exchange"},
	"internal/basicauth": {"internal/exchange"},
	"internal/canonical": {"internal/exchange"},
	"internal/gate":      {"internal/exchange", "internal/address"},
	"internal/headers":   {"internal/exchange"},
	"internal/identity":  {"internal/clock", "internal/exchange", "internal/item", "internal/statefile"},
	"internal/limit":     {"internal/exchange"},
	"internal/replay":    {"internal/clock", "internal/exchange", "internal/statefile"},
	"internal/ratelimit": {"internal/exchange", "internal/address"},
	"internal/sendfile":  {"internal/exchange"},
	"internal/static":    {"internal/exchange"},
	"internal/upstream":  {"internal/exchange"},
	"internal/websocket": {"internal/exchange"},
	"internal/wsx":       {"internal/exchange"},

	// Push beside the road: the engine knows nothing of HTTP; what carries it is a step.
	"internal/push":           {"internal/clock", "internal/statefile"},
	"internal/statefile":      {},
	"internal/clock":          {},
	"internal/push/transport": {"internal/exchange", "internal/push"},
	"internal/pages":          {"internal/exchange", "internal/item", "internal/push", "internal/statefile"},

	// The index is what those have in common who keep items: an item, and who asks for them.
	"internal/item":     {},
	"internal/phase":    {},
	"internal/registry": {"internal/identity", "internal/item", "internal/pages", "internal/push"},

	"internal/mirror":      {"internal/statefile"},                   // beside the road, as push is
	"internal/durable":     {"internal/statefile"},                   // likewise
	"internal/globalstore": {"internal/clock", "internal/statefile"}, // likewise
	"internal/bus":         {},                                       // beside the road, as push is
	"internal/events":      {"internal/bus", "internal/push"},

	"internal/admin":         {},
	"internal/guard":         {},
	"internal/child":         {"internal/guard"},
	"internal/supervise":     {"internal/child", "internal/link"},
	"internal/program":       {"internal/child", "internal/supervise"},
	"internal/observe":       {"internal/exchange"},
	"internal/executor":      {"internal/exchange", "internal/link"},
	"internal/calls":         {"internal/link"},
	"internal/config":        {},
	"internal/runtime":       {},
	"internal/watch":         {},
	"internal/adopt":         {"internal/config"},
	"internal/service":       {"internal/config"},
	"internal/doctor":        {"internal/child", "internal/config", "internal/edge", "internal/runtime", "internal/version"},
	"internal/link/linktest": {"internal/exchange", "internal/link"},
	"internal/archtest":      {},
	"python":                 {},
	"js":                     {},

	"": {"internal/clock", "internal/durable", "internal/replay", "internal/item", "internal/registry", "internal/globalstore", "internal/bus", "internal/events", "internal/access", "internal/admin", "internal/address", "internal/basicauth", "internal/calls", "internal/canonical", "internal/gate",
		"internal/headers", "internal/limit", "internal/ratelimit", "internal/sendfile",
		"internal/child", "internal/config", "internal/edge", "internal/edge/compress", "internal/edge/http2", "internal/edge/lane",
		"internal/exchange", "internal/executor", "internal/gohandler", "internal/identity", "internal/link", "internal/mirror", "internal/observe", "internal/pages", "internal/phase", "internal/pool", "internal/program", "internal/push", "internal/push/transport", "internal/redirect",
		"internal/route", "internal/runtime", "internal/service", "internal/static", "internal/statefile", "internal/supervise", "internal/upstream",
		"internal/version", "internal/websocket", "js", "internal/wsx", "python"},
	// The command loads, checks and shows a configuration and hands it to the library;
	// `guado check` boots a worker as the supervisor would.
	"cmd/guado": {"internal/adopt", "", "internal/admin", "internal/config", "internal/doctor", "internal/link", "internal/phase", "internal/program", "internal/runtime", "internal/service", "internal/supervise",
		"internal/version", "internal/watch", "python"},
}

// speakHTTP are the packages that may import net/http: the HTTP/2 lane and what it
// shares with the other one, mounts that are http.Handlers and the adapter in front
// of them, and those that name the type http.Handler. A request to a Python
// application never passes through net/http on its way.
var speakHTTP = []string{
	"internal/edge", "internal/edge/compress", "internal/edge/http2",
	"internal/gohandler", "internal/sendfile", "internal/static", "internal/upstream",
	"internal/observe", // beside the road
	"internal/pages",   // Set-Cookie is read by net/http
	"internal/admin", "internal/config", "",
}

// source is one Go file that is no test.
type source struct {
	pkg  string // relative to the module: "internal/pool"; "" is the root
	name string
	file *ast.File
	fset *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	for _, top := range []string{".", "cmd", "internal", "js", "python"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && top == "." && path != root, d.IsDir() && d.Name() == "testdata":
				return fs.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution|parser.ParseComments)
			if err != nil {
				return err
			}
			pkg := filepath.ToSlash(filepath.Dir(rel))
			if pkg == "." {
				pkg = ""
			}
			all = append(all, source{pkg, filepath.ToSlash(rel), file, fset})
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return all
}

func (s source) imports(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, i := range s.file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, path)
	}
	return out
}

func TestAPackageImportsOnlyWhatTheTableAllows(t *testing.T) {
	for _, s := range sources(t) {
		list, known := allowed[s.pkg]
		if !known {
			t.Errorf("%s: the package %q is not in the table of archtest", s.name, s.pkg)
			continue
		}
		for _, path := range s.imports(t) {
			ours, is := strings.CutPrefix(path, module)
			if !is {
				continue
			}
			if ours = strings.TrimPrefix(ours, "/"); !slices.Contains(list, ours) {
				t.Errorf("%s imports %q, which the table of archtest does not allow to %q", s.name, ours, s.pkg)
			}
		}
	}
}

func TestTheTableHoldsNoImportThatNobodyUses(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		for _, path := range s.imports(t) {
			if ours, is := strings.CutPrefix(path, module); is {
				used[s.pkg+" "+strings.TrimPrefix(ours, "/")] = true
			}
		}
	}
	for pkg, list := range allowed {
		for _, path := range list {
			if !used[pkg+" "+path] {
				t.Errorf("%q may import %q and does not: take it out of the table", pkg, path)
			}
		}
	}
}

func TestNetHTTPIsImportedOnlyWhereTheDesignAllowsIt(t *testing.T) {
	for _, s := range sources(t) {
		for _, path := range s.imports(t) {
			if strings.HasPrefix(path, "net/http") && !slices.Contains(speakHTTP, s.pkg) && !strings.HasPrefix(s.pkg, "cmd/") {
				t.Errorf("%s imports %s", s.name, path)
			}
		}
	}
}

func TestNothingIsCompiledByCgo(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains(s.imports(t), "C") {
			t.Errorf("%s uses cgo", s.name)
		}
	}
}

// only are calls that belong to commands: a library neither ends its program nor
// takes its signals and flags, and package state is not made behind its back.
func TestOnlyCommandsExitTrapSignalsAndReadFlags(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasPrefix(s.pkg, "cmd/") {
			continue
		}
		for _, path := range s.imports(t) {
			// The guard is a program of its own, though it is in the same file.
			guard := s.name == "internal/child/shim.go" && path == "os/signal"
			if (path == "flag" || path == "os/signal") && !guard {
				t.Errorf("%s imports %s", s.name, path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "os" && n.Sel.Name == "Exit" || ok && x.Name == "log" && strings.HasPrefix(n.Sel.Name, "Fatal") {
					t.Errorf("%s: %s.%s", s.fset.Position(n.Pos()), x.Name, n.Sel.Name)
				}
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					t.Errorf("%s: func init", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// The limits of STYLE: past them a file or function asks to be two. Tests and the other
// languages are held to them as well; functions only where Go can parse them.
const (
	longestFile     = 600
	longestFunction = 80
)

func TestNoFileOrFunctionIsTooLong(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "data"):
			return fs.SkipDir // what was installed or made here, and inputs of tests
		case d.IsDir() || !slices.Contains([]string{".go", ".py", ".c", ".h", ".js", ".sh"}, filepath.Ext(name)):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, root+"/")
		if n := strings.Count(string(text), "\n"); n > longestFile {
			t.Errorf("%s has %d lines", rel, n)
		}
		if filepath.Ext(name) == ".go" {
			checkFunctions(t, rel, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFunctions(t *testing.T, name string, text []byte) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > longestFunction {
			t.Errorf("%s: %s has %d lines", name, f.Name.Name, n)
		}
	}
}

func TestEachPackageSaysWhatItIsAndWhatIsNotInIt(t *testing.T) {
	docs := map[string]string{}
	for _, s := range sources(t) {
		if s.file.Doc != nil {
			docs[s.pkg] += s.file.Doc.Text()
		} else if _, seen := docs[s.pkg]; !seen {
			docs[s.pkg] = ""
		}
	}
	for pkg, doc := range docs {
		if !strings.Contains(doc, "Before it") && !strings.Contains(doc, "Not here") {
			t.Errorf("package %q does not say what comes before and after it and what is not in it", pkg)
		}
	}
}
