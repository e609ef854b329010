package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// statusNames are net/http's constants as the source spells them.
var statusNames = map[string]int{
	"http.StatusBadRequest": http.StatusBadRequest, "http.StatusRequestEntityTooLarge": http.StatusRequestEntityTooLarge,
	"http.StatusRequestURITooLong": http.StatusRequestURITooLong, "http.StatusRequestHeaderFieldsTooLarge": http.StatusRequestHeaderFieldsTooLarge,
	"http.StatusInternalServerError": http.StatusInternalServerError, "http.StatusBadGateway": http.StatusBadGateway,
	"http.StatusGatewayTimeout": http.StatusGatewayTimeout, "http.StatusServiceUnavailable": http.StatusServiceUnavailable,
	"http.StatusNotImplemented": http.StatusNotImplemented, "http.StatusNotFound": http.StatusNotFound,
	"http.StatusForbidden": http.StatusForbidden, "http.StatusMethodNotAllowed": http.StatusMethodNotAllowed,
	"http.StatusRequestTimeout": http.StatusRequestTimeout,
}

// statusOf reads an expression that is a number or one of net/http's constants.
func statusOf(t *testing.T, at token.Position, e ast.Expr) int {
	t.Helper()
	switch v := e.(type) {
	case *ast.BasicLit:
		if n, err := strconv.Atoi(v.Value); err == nil {
			return n
		}
	case *ast.SelectorExpr:
		if pkg, ok := v.X.(*ast.Ident); ok {
			if n, ok := statusNames[pkg.Name+"."+v.Sel.Name]; ok {
				return n
			}
		}
	}
	t.Errorf("%s: the status of a problem is neither a number nor a constant that this test knows", at)
	return 0
}

func stringOf(e ast.Expr) string {
	if v, ok := e.(*ast.BasicLit); ok && v.Kind == token.STRING {
		if s, err := strconv.Unquote(v.Value); err == nil {
			return s
		}
	}
	return ""
}

// problemOf reads a literal of exchange.Problem. Where status or code are parameters
// of a function that makes one, the calls of that function have them.
func problemOf(t *testing.T, set *token.FileSet, v *ast.CompositeLit) (status int, code string) {
	t.Helper()
	if kind, ok := v.Type.(*ast.SelectorExpr); !ok || kind.Sel.Name != "Problem" {
		return 0, ""
	}
	for _, e := range v.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := pair.Key.(*ast.Ident)
		_, given := pair.Value.(*ast.Ident)
		switch {
		case !ok || given:
		case key.Name == "Code":
			code = stringOf(pair.Value)
		case key.Name == "Status":
			status = statusOf(t, set.Position(v.Pos()), pair.Value)
		}
	}
	return status, code
}

// problems gives "400 bad_path" for every problem that the source makes: literals,
// calls of the functions that make one, and codes that are changed afterwards.
func problems(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, f := range sources(t, ".go") {
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, f.name, f.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			status, code := 0, ""
			switch v := n.(type) {
			case *ast.CompositeLit:
				status, code = problemOf(t, set, v)
			case *ast.CallExpr:
				switch name, _ := v.Fun.(*ast.Ident); {
				case name == nil:
				case name.Name == "badRequest" && len(v.Args) == 2:
					status, code = http.StatusBadRequest, stringOf(v.Args[0])
				case name.Name == "refusal" && len(v.Args) == 3:
					status, code = statusOf(t, set.Position(v.Pos()), v.Args[0]), stringOf(v.Args[1])
				}
			case *ast.AssignStmt:
				if left, ok := v.Lhs[0].(*ast.SelectorExpr); ok && left.Sel.Name == "Code" {
					status, code = http.StatusInternalServerError, stringOf(v.Rhs[0])
				}
			}
			if code != "" {
				all = add(all, fmt.Sprintf("%d %s", status, code))
			}
			return true
		})
	}
	return all
}

var errorRow = regexp.MustCompile("(?m)^\\| (\\d{3}) \\| `(\\w+)` \\|")

func TestEachErrorCodeIsExplained(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	for _, m := range errorRow.FindAllStringSubmatch(string(page), -1) {
		explained = append(explained, m[1]+" "+m[2])
	}
	made := problems(t)
	if len(made) < 30 {
		t.Errorf("only %d problems were found in the source: the search is broken", len(made))
	}
	compare(t, "errors", explained, made)
}
