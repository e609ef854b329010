package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// EnvPrefix starts the variables that override the file: GUADO__SERVER__LISTEN,
// GUADO__APP__SHOP__THREADS (an element of an array by its name, or its number
// from 0), GUADO__APP__SHOP__ENV__DEBUG (a variable of the application).
const EnvPrefix = "GUADO__"

// overlay puts the environment's overrides over the tree. What a flag said stays.
func (t *tree) overlay(environ []string, ps *problems) {
	for _, variable := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(variable, "=")
		if rest, ok := strings.CutPrefix(name, EnvPrefix); ok {
			t.override(name, strings.Split(rest, "__"), value, ps)
		}
	}
}

func (t *tree) override(variable string, parts []string, value string, ps *problems) {
	from := Origin{Kind: FromEnv, Name: variable}
	table, path, fields := t.root, "", fieldsOf(reflect.TypeFor[Config]())
	if f, ok := find(fields, strings.ToLower(parts[0])); ok && kindOf(f.typ) == kindTables {
		if len(parts) < 3 {
			ps.add(from, "", "", "must name an element and its key, as %s%s__NAME__KEY", EnvPrefix, parts[0])
			return
		}
		at := t.elementNamed(f.key, parts[1])
		if at < 0 {
			ps.add(from, "", "", "there is no [[%s]] with the name %q", f.key, strings.ToLower(parts[1]))
			return
		}
		table, path, fields, parts = t.elements(f.key)[at], element(f.key, at), fieldsOf(f.typ.Elem()), parts[2:]
	}
	keys, err := leaf(fields, parts)
	if err != nil {
		ps.add(from, "", "", "%s", err)
		return
	}
	for _, key := range keys {
		path = join(path, key)
	}
	if t.origins[path].Kind == FromFlag {
		return
	}
	if err := set(table, keys, value); err != nil {
		ps.add(from, "", "", "%s", err)
		return
	}
	t.origins[path] = from
}

// leaf turns the parts of a variable's name into the keys of one value.
func leaf(fields []field, parts []string) ([]string, error) {
	key := strings.ToLower(parts[0])
	f, ok := find(fields, key)
	if !ok {
		return nil, fmt.Errorf("no key %q; %s", key, hint(key, keysOf(fields)))
	}
	rest := parts[1:]
	switch k := kindOf(f.typ); {
	case k == kindTable && len(rest) > 0:
		keys, err := leaf(fieldsOf(f.typ), rest)
		return append([]string{key}, keys...), err
	case k == kindMap && len(rest) > 0:
		return []string{key, strings.Join(rest, "__")}, nil
	case k == kindTable || k == kindMap:
		return nil, fmt.Errorf("%q is a table; name one of its keys behind __", key)
	case len(rest) > 0:
		return nil, fmt.Errorf("%q has no keys of its own", key)
	}
	return []string{key}, nil
}

// elementNamed finds an element of an array by its name as the environment can
// spell it, or by its number; -1 when there is none.
func (t *tree) elementNamed(key, name string) int {
	elements := t.elements(key)
	for i, table := range elements {
		if given, ok := table["name"].(string); ok && envName(given) == envName(name) {
			return i
		}
	}
	if at, err := strconv.Atoi(name); err == nil && at >= 0 && at < len(elements) {
		return at
	}
	return -1
}

// envName spells a name as a variable can hold it: "my-shop" is MY_SHOP.
func envName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}
