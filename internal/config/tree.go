package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tree is what a source sets, before it is checked against the structure: TOML's
// own values, and where each comes from. Paths are spelled "app[0].threads".
//
// The library could decode into the structure itself, but it stops at the first
// wrong value, knows no origin once it is done, and cannot tell "not set" from a
// zero; one walk over the tree does all three (see decoder).
type tree struct {
	root    map[string]any
	origins map[string]Origin
}

func newTree() *tree {
	return &tree{root: map[string]any{}, origins: map[string]Origin{}}
}

// parse reads TOML; name is how messages call the file.
func parse(name string, data []byte) (*tree, error) {
	t := newTree()
	if err := toml.Unmarshal(data, &t.root); err != nil {
		var at *toml.DecodeError
		if !errors.As(err, &at) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		row, column := at.Position()
		where := fmt.Sprintf("%s:%d:%d", name, row, column)
		return nil, Problems{{Where: where, Message: strings.TrimPrefix(at.Error(), "toml: "), line: row}}
	}
	l := locator{name: name, tree: t, tables: map[string]int{}}
	l.parser.Reset(data)
	for l.parser.NextExpression() {
		l.expression(l.parser.Expression())
	}
	if err := l.parser.Error(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// locator notes the line of every key of a TOML file.
type locator struct {
	parser unstable.Parser
	name   string
	tree   *tree
	prefix string         // of the current [table]
	tables map[string]int // array of tables → index of its last element
}

func (l *locator) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.Table:
		l.prefix = l.header(n, false)
	case unstable.ArrayTable:
		l.prefix = l.header(n, true)
	case unstable.KeyValue:
		l.keyValue(l.prefix, n)
	}
}

// header gives the path of a [table] or [[table]] and notes its line.
func (l *locator) header(n *unstable.Node, array bool) string {
	path, line := "", 0
	for keys := n.Key(); keys.Next(); {
		key := keys.Node()
		line = l.line(key)
		path = join(path, string(key.Data))
		last := keys.IsLast()
		switch at, isArray := l.tables[path]; {
		case array && last:
			if isArray {
				at++
			}
			l.tables[path] = at
			path = element(path, at)
		case isArray:
			path = element(path, at)
		}
	}
	l.note(path, line)
	return path
}

func (l *locator) keyValue(prefix string, n *unstable.Node) {
	path, line := prefix, 0
	for keys := n.Key(); keys.Next(); {
		path, line = join(path, string(keys.Node().Data)), l.line(keys.Node())
	}
	l.note(path, line)
	l.value(path, line, n.Value())
}

func (l *locator) value(path string, line int, n *unstable.Node) {
	children := n.Children()
	switch n.Kind {
	case unstable.InlineTable:
		for children.Next() {
			l.keyValue(path, children.Node())
		}
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			l.note(element(path, i), line)
			l.value(element(path, i), line, children.Node())
		}
	}
}

func (l *locator) line(key *unstable.Node) int { return l.parser.Shape(key.Raw).Start.Line }

func (l *locator) note(path string, line int) {
	l.tree.origins[path] = Origin{Kind: FromFile, Name: l.name, Line: line}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// set puts a value at a path of keys below table, making tables on the way.
func set(table map[string]any, keys []string, value any) error {
	for _, key := range keys[:len(keys)-1] {
		switch next := table[key].(type) {
		case nil:
			m := map[string]any{}
			table[key], table = m, m
		case map[string]any:
			table = next
		default:
			return fmt.Errorf("%q is not a table", key)
		}
	}
	table[keys[len(keys)-1]] = value
	return nil
}

// elements gives the tables of an array; what is no table is left for the decoder
// to complain about.
func (t *tree) elements(key string) []map[string]any {
	switch list := t.root[key].(type) {
	case []map[string]any:
		return list
	case []any:
		tables := make([]map[string]any, 0, len(list))
		for _, e := range list {
			table, ok := e.(map[string]any)
			if !ok {
				return nil
			}
			tables = append(tables, table)
		}
		return tables
	}
	return nil
}

// baseName is how messages call a file: short, as the operator typed it or without
// the folders of the working directory.
func baseName(path, workdir string) string {
	if rel, err := filepath.Rel(workdir, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}
