package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// section is one table of the file: its header and its own keys.
type section struct {
	header string // "[server.limits]", "[[app]]"
	path   string // "server.limits", "app"
	doc    string
	array  bool
	fields []field // without those that are tables
}

// sections lists the tables of the configuration, each before those inside it.
func sections() []section {
	var list []section
	var visit func(t reflect.Type, path, doc string, array bool)
	visit = func(t reflect.Type, path, doc string, array bool) {
		s := section{header: "[" + path + "]", path: path, doc: doc, array: array}
		if array {
			s.header = "[[" + path + "]]"
		}
		at := len(list)
		list = append(list, s)
		for _, f := range fieldsOf(t) {
			if kindOf(f.typ) == kindTable {
				visit(f.typ, path+"."+f.key, f.doc(), false)
				continue
			}
			if f.group && t == reflect.TypeFor[App]() {
				continue // said once, at [[group]]
			}
			list[at].fields = append(list[at].fields, f)
		}
	}
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		if kindOf(f.typ) == kindTables {
			visit(f.typ.Elem(), f.key, f.doc(), true)
		} else {
			visit(f.typ, f.key, f.doc(), false)
		}
	}
	return list
}

// typeWords are how the reference calls the shapes.
var typeWords = map[kind]string{
	kindStrings: "strings", kindMap: "table", kindString: "string", kindInt: "number", kindInts: "numbers",
	kindBool: "bool", kindDuration: "duration", kindSize: "size",
}

// defaultTOML spells a field's default as the file does.
func (f field) defaultTOML() string {
	v := reflect.New(f.typ).Elem()
	if v.Kind() == reflect.Pointer {
		return ""
	}
	setDefault(f, v)
	return tomlValue(v)
}

// tomlValue spells a value of the structure as the file does.
func tomlValue(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case Duration:
		if x == 0 {
			return "0"
		}
		return tomlString(x.String())
	case Size:
		if s := x.String(); s != strconv.FormatInt(x.Bytes(), 10) {
			return tomlString(s)
		}
		return strconv.FormatInt(x.Bytes(), 10)
	case string:
		return tomlString(x)
	case []string:
		parts := make([]string, len(x))
		for i, s := range x {
			parts[i] = tomlString(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []int:
		parts := make([]string, len(x))
		for i, n := range x {
			parts[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]string:
		parts := make([]string, 0, len(x))
		for _, key := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, tomlKey(key)+" = "+tomlString(x[key]))
		}
		if len(parts) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return fmt.Sprint(v.Interface())
}

// tomlString quotes s. A JSON string is a TOML basic string, as long as nothing is
// escaped for HTML.
func tomlString(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return strconv.Quote(s)
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007F`)
}

func tomlKey(key string) string {
	if nameForm.MatchString(key) {
		return key
	}
	return tomlString(key)
}

// DefaultFile is a configuration file that changes nothing: every key with what it
// does and its default, commented out.
func DefaultFile() string {
	var b strings.Builder
	b.WriteString("# Configuration of Guado: every key, what it does, and its default. Uncomment what you change.\n" +
		"# Durations are numbers of seconds or \"250ms\", \"25s\", \"1m30s\"; sizes are numbers of bytes or \"64KiB\", \"1GiB\".\n" +
		"# Relative paths start at the folder of this file. The environment overrides it: GUADO__SERVER__LOG_LEVEL,\n" +
		"# GUADO__APP__SHOP__THREADS (an element by its name).\n")
	for _, s := range sections() {
		b.WriteString("\n")
		comment(&b, s.doc)
		if s.array || strings.Contains(s.path, ".") {
			b.WriteString("# ")
		}
		b.WriteString(s.header + "\n")
		for _, f := range s.fields {
			b.WriteString("\n")
			comment(&b, f.doc())
			value := f.defaultTOML()
			if value == "" {
				value = "0"
			}
			fmt.Fprintf(&b, "# %s = %s", f.key, value)
			if words := f.enums(); words != nil {
				fmt.Fprintf(&b, "  # %s", strings.Join(words, " | "))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// comment writes text as comment lines of readable width.
func comment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 100 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// Reference is the documentation of all keys, in Markdown.
func Reference() string {
	var b strings.Builder
	b.WriteString("# Configuration reference\n\n" +
		"Made by `guado config doc`. The file is TOML and strict: an unknown key is an error. " +
		"Durations are numbers of seconds or `\"250ms\"`, `\"25s\"`, `\"1m30s\"`; sizes are numbers of bytes or `\"64KiB\"`, `\"1GiB\"`. " +
		"Relative paths start at the folder of the file.\n\n" +
		"Every key can be set by the environment, over the file: `GUADO__SERVER__LOG_LEVEL=debug`, " +
		"`GUADO__SERVER__LISTEN=127.0.0.1:8000,unix:run/guado.sock` (lists by commas), " +
		"`GUADO__APP__SHOP__THREADS=4` (an element of `[[app]]` by its name, or its number from 0), " +
		"`GUADO__APP__SHOP__ENV__DEBUG=1`. Flags win over both.\n")
	for _, s := range sections() {
		fmt.Fprintf(&b, "\n## `%s`\n\n%s\n", s.header, s.doc)
		if len(s.fields) == 0 {
			continue
		}
		b.WriteString("\n| key | type | default | |\n|---|---|---|---|\n")
		for _, f := range s.fields {
			value := f.defaultTOML()
			if value == `""` || value == "[]" || value == "{}" || value == "" {
				value = ""
			} else {
				value = "`" + value + "`"
			}
			doc := f.doc()
			if words := f.enums(); words != nil {
				doc += " One of `" + strings.Join(words, "`, `") + "`."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.key, typeWords[kindOf(f.typ)], value, strings.ReplaceAll(doc, "|", "\\|"))
		}
	}
	return b.String()
}

// Schema is the JSON Schema of the file, for editors.
func Schema() ([]byte, error) {
	root := object(reflect.TypeFor[Config]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Guado configuration"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(root)
	return b.Bytes(), err
}

func object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for _, f := range fieldsOf(t) {
		properties[f.key] = f.schema()
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

func (f field) schema() map[string]any {
	word := map[string]any{"type": "string"}
	if words := f.enums(); words != nil && kindOf(f.typ) != kindInt {
		if strings.HasPrefix(f.enum(), ",") {
			words = append([]string{""}, words...)
		}
		word["enum"] = words
	}
	var s map[string]any
	k := kindOf(f.typ)
	switch k {
	case kindTable:
		s = object(f.typ)
	case kindTables:
		s = map[string]any{"type": "array", "items": object(f.typ.Elem())}
	case kindStrings:
		s = map[string]any{"anyOf": []any{word, map[string]any{"type": "array", "items": word}}}
	case kindMap:
		s = map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}}
	case kindString:
		s = word
	case kindInt:
		s = map[string]any{"type": "integer"}
		f.integers(s)
	case kindInts:
		number := map[string]any{"type": "integer"}
		s = map[string]any{"anyOf": []any{number, map[string]any{"type": "array", "items": number}}}
	case kindBool:
		s = map[string]any{"type": "boolean"}
	case kindDuration:
		s = map[string]any{"anyOf": []any{
			map[string]any{"type": "number", "minimum": 0},
			map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h)?)+$`},
		}}
	case kindSize:
		s = map[string]any{"anyOf": []any{
			map[string]any{"type": "integer", "minimum": 0},
			map[string]any{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? ?([kKmMgGtT]([iI]?[bB])?|[bB])?$`},
		}}
	}
	s["description"] = f.doc()
	if v := reflect.New(f.typ).Elem(); f.defaultText() != "" {
		setDefault(f, v)
		s["default"] = v.Interface()
	}
	return s
}

func (f field) integers(s map[string]any) {
	if f.min() != "" {
		s["minimum"] = json.Number(f.min())
	}
	if words := f.enums(); words != nil {
		numbers := make([]json.Number, len(words))
		for i, word := range words {
			numbers[i] = json.Number(word)
		}
		s["enum"] = numbers
	}
}

// HasKey reports whether a table has a key, as "mount" has "path".
func HasKey(table, key string) bool {
	f, known := find(fieldsOf(reflect.TypeFor[Config]()), table)
	if !known {
		return false
	}
	t := f.typ
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	_, has := find(fieldsOf(t), key)
	return has
}
