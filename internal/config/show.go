package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// hidden stands for a value that is not shown.
const hidden = "(hidden)"

// secretName finds environment variables whose values are nobody's business.
var secretName = regexp.MustCompile(`(?i)(SECRET|TOKEN|PASSW|PWD|_KEY$|^KEY$|APIKEY|CREDENTIAL|DSN|DATABASE_URL|_URL$)`)

// Show spells the complete configuration as a file, with where each value comes
// from; what no source set is left out unless all is true. Secrets are hidden.
func (c *Config) Show(all bool) string {
	var b strings.Builder
	if c.File != "" {
		fmt.Fprintf(&b, "# %s\n", c.File)
	}
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		v := reflect.ValueOf(c).Elem().FieldByIndex(f.index)
		if kindOf(f.typ) == kindTable {
			c.showTable(&b, v, "["+f.key+"]", f.key, all)
			continue
		}
		for i := range v.Len() {
			c.showTable(&b, v.Index(i), "[["+f.key+"]]", element(f.key, i), all)
		}
	}
	return strings.TrimPrefix(b.String(), "\n")
}

func (c *Config) showTable(b *strings.Builder, v reflect.Value, header, path string, all bool) {
	var lines, inner strings.Builder
	fields := fieldsOf(v.Type())
	for _, f := range fields {
		target, at := v.FieldByIndex(f.index), join(path, f.key)
		if kindOf(f.typ) == kindTable {
			c.showTable(&inner, target, strings.TrimSuffix(header, "]")+"."+f.key+"]", at, all)
			continue
		}
		if f.group && v.Type() == reflect.TypeFor[App]() {
			continue // they belong to the app's group by now
		}
		if m, ok := v.Addr().Interface().(*Mount); ok && mountKeys[f.key] != "" && mountKeys[f.key] != m.Kind() {
			continue // it means nothing there, and a file with it would be refused
		}
		origin := c.originOf(at)
		derived := f.key == "name" || tomlValue(target) != f.defaultTOML()
		if text := tomlValue(hideSecrets(f, target)); text != "" && (all || derived) {
			fmt.Fprintf(&lines, "%-50s # %s\n", f.key+" = "+text, origin)
		}
	}
	if lines.Len() > 0 || strings.HasPrefix(header, "[[") {
		fmt.Fprintf(b, "\n%s\n%s", header, lines.String())
	}
	b.WriteString(inner.String())
}

// originOf also finds the origin of a table's single keys (env.DEBUG).
func (c *Config) originOf(path string) Origin {
	if o, ok := c.origins[path]; ok {
		return o
	}
	for _, key := range slices.Sorted(maps.Keys(c.origins)) {
		if strings.HasPrefix(key, path+".") {
			return c.origins[key]
		}
	}
	return Origin{Kind: FromDefault}
}

// hideSecrets gives the value as it may be shown; what is not set is empty, not null.
func hideSecrets(f field, v reflect.Value) reflect.Value {
	switch kindOf(f.typ) {
	case kindStrings:
		if v.IsNil() {
			return reflect.ValueOf([]string{})
		}
	case kindMap:
		shown := map[string]string{}
		maps.Copy(shown, v.Interface().(map[string]string))
		for name := range shown {
			if f.key == "env" && secretName.MatchString(name) {
				shown[name] = hidden
			}
		}
		return reflect.ValueOf(shown)
	default:
	}
	return v
}

// JSON is the complete configuration as an object, secrets hidden.
func (c *Config) JSON() ([]byte, error) {
	return json.MarshalIndent(jsonTable(reflect.ValueOf(c).Elem()), "", "  ")
}

func jsonTable(v reflect.Value) map[string]any {
	out := map[string]any{}
	for _, f := range fieldsOf(v.Type()) {
		target := v.FieldByIndex(f.index)
		if f.group && v.Type() == reflect.TypeFor[App]() {
			continue
		}
		switch kindOf(f.typ) {
		case kindTable:
			out[f.key] = jsonTable(target)
		case kindTables:
			list := make([]any, target.Len())
			for i := range list {
				list[i] = jsonTable(target.Index(i))
			}
			out[f.key] = list
		default:
			out[f.key] = hideSecrets(f, target).Interface()
		}
	}
	return out
}
