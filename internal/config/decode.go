package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// decoder puts a tree into the structure: strict about keys and types, defaults
// for what is not set, and every problem collected instead of the first.
type decoder struct {
	tree *tree
	problems
}

// table fills the struct out from in. path is where it is in the tree, shown how
// messages call it.
func (d *decoder) table(out reflect.Value, in map[string]any, path, shown string) {
	fields := fieldsOf(out.Type())
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if _, known := find(fields, key); !known {
			d.add(d.tree.origins[join(path, key)], join(shown, key), "", "unknown key; %s", hint(key, keysOf(fields)))
		}
	}
	for _, f := range fields {
		target := out.FieldByIndex(f.index)
		value, set := in[f.key]
		switch {
		case set:
			d.value(f, target, value, join(path, f.key), join(shown, f.key))
		case kindOf(f.typ) == kindTable && f.typ.Kind() == reflect.Struct:
			d.table(target, nil, join(path, f.key), join(shown, f.key))
		default:
			setDefault(f, target)
		}
	}
}

// setDefault gives a field what its tag says. A tag that cannot be read is a
// mistake of this package, which TestEveryFieldIsDescribed finds.
func setDefault(f field, target reflect.Value) {
	if f.defaultText() == "" {
		return
	}
	if err := setText(target, kindOf(f.typ), f.defaultText()); err != nil {
		panic("config: default of " + f.key + ": " + err.Error())
	}
}

func (d *decoder) value(f field, target reflect.Value, value any, path, shown string) {
	from := d.tree.origins[path]
	k := kindOf(f.typ)
	var err error
	switch k {
	case kindTable:
		if table, ok := value.(map[string]any); ok {
			d.table(target, table, path, shown)
			return
		}
		if list := d.tree.origins[element(path, 0)]; list.Line > 0 {
			from = list
		}
		d.table(target, nil, path, shown)
		err = fmt.Errorf("must be a table; write [%s]", f.key)
	case kindTables:
		d.tables(f, target, path)
		return
	default:
		if target.Kind() == reflect.Pointer {
			target.Set(reflect.New(target.Type().Elem()))
			target = target.Elem()
		}
		if text, ok := value.(string); ok && from.Kind != FromFile {
			err = setText(target, k, text)
		} else {
			err = setValue(target, k, value)
		}
		if err == nil {
			err = f.check(target)
		}
	}
	if err != nil {
		d.add(from, shown, spell(value), "%s", err)
	}
}

func (d *decoder) tables(f field, target reflect.Value, path string) {
	elements := d.tree.elements(f.key)
	if elements == nil {
		d.add(d.tree.origins[path], f.key, "", "must be an array of tables; write [[%s]]", f.key)
		return
	}
	list := reflect.MakeSlice(target.Type(), len(elements), len(elements))
	for i, table := range elements {
		shown := element(f.key, i)
		if name, ok := table["name"].(string); ok && name != "" {
			shown = join(f.key, name)
		}
		d.table(list.Index(i), table, element(path, i), shown)
	}
	target.Set(list)
}

// setValue takes a value with the type that TOML gave it.
func setValue(target reflect.Value, k kind, value any) error {
	switch v := value.(type) {
	case string:
		switch k {
		case kindString:
			target.SetString(v)
			return nil
		case kindStrings:
			target.Set(reflect.ValueOf([]string{v}))
			return nil
		case kindDuration, kindSize:
			return setText(target, k, v)
		}
	case bool:
		if k == kindBool {
			target.SetBool(v)
			return nil
		}
	case int64:
		switch k {
		case kindInts:
			target.Set(reflect.ValueOf([]int{int(v)}))
			return nil
		case kindInt, kindSize:
			if k == kindSize && v < 0 {
				return fmt.Errorf("must not be negative")
			}
			target.SetInt(v)
			return nil
		case kindDuration:
			return setText(target, k, strconv.FormatInt(v, 10))
		}
	case float64:
		if k == kindDuration {
			return setText(target, k, strconv.FormatFloat(v, 'g', -1, 64))
		}
	case []any, []string:
		switch k {
		case kindStrings:
			return setStrings(target, v)
		case kindInts:
			return setInts(target, v)
		}
	case map[string]any:
		if k == kindMap {
			return setMap(target, v)
		}
	}
	return fmt.Errorf("must be %s", shapes[k])
}

// shapes are the words for what a value must be.
var shapes = map[kind]string{
	kindStrings:  "a list of strings",
	kindMap:      "a table of strings",
	kindString:   "a string (in quotes)",
	kindInt:      "a whole number",
	kindInts:     "a list of whole numbers",
	kindBool:     "true or false",
	kindDuration: "a duration: a number of seconds, or \"250ms\", \"25s\", \"1m30s\"",
	kindSize:     "a size: a number of bytes, or \"64KiB\", \"10MB\", \"1GiB\"",
}

func setStrings(target reflect.Value, value any) error {
	list, ok := value.([]string)
	if !ok {
		for _, v := range value.([]any) {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("must be %s, but %s is none", shapes[kindStrings], spell(v))
			}
			list = append(list, s)
		}
	}
	if list == nil {
		list = []string{}
	}
	target.Set(reflect.ValueOf(list))
	return nil
}

func setInts(target reflect.Value, value any) error {
	list := []int{}
	if numbers, ok := value.([]any); ok {
		for _, v := range numbers {
			n, ok := v.(int64)
			if !ok {
				return fmt.Errorf("must be %s, but %s is none", shapes[kindInts], spell(v))
			}
			list = append(list, int(n))
		}
	}
	target.Set(reflect.ValueOf(list))
	return nil
}

func setMap(target reflect.Value, value map[string]any) error {
	m := make(map[string]string, len(value))
	for _, key := range slices.Sorted(maps.Keys(value)) {
		s, ok := value[key].(string)
		if !ok {
			return fmt.Errorf("must be %s; write %s = %q", shapes[kindMap], key, fmt.Sprint(value[key]))
		}
		m[key] = s
	}
	target.Set(reflect.ValueOf(m))
	return nil
}

// setText takes a value as the environment, a flag or a default tag spells it.
func setText(target reflect.Value, k kind, text string) error {
	switch k {
	case kindString:
		target.SetString(text)
	case kindStrings:
		list, err := splitList(text)
		if err != nil {
			return err
		}
		target.Set(reflect.ValueOf(list))
	case kindInt:
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("must be %s", shapes[k])
		}
		target.SetInt(int64(n))
	case kindInts:
		words, err := splitList(text)
		if err != nil {
			return err
		}
		list := []int{}
		for _, word := range words {
			n, err := strconv.Atoi(word)
			if err != nil {
				return fmt.Errorf("must be %s, but %s is none", shapes[kindInts], spell(word))
			}
			list = append(list, n)
		}
		target.Set(reflect.ValueOf(list))
	case kindBool:
		v, err := strconv.ParseBool(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("must be %s", shapes[k])
		}
		target.SetBool(v)
	case kindDuration:
		v, err := ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		target.SetInt(int64(v))
	case kindSize:
		v, err := ParseSize(text)
		if err != nil {
			return err
		}
		target.SetInt(int64(v))
	default:
		return fmt.Errorf("cannot be set as a whole; set its keys one by one")
	}
	return nil
}

// splitList reads "a,b" or, for values that hold a comma, a TOML array.
func splitList(text string) ([]string, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var v struct{ List []string }
		if err := toml.Unmarshal([]byte("List = "+text), &v); err != nil {
			return nil, fmt.Errorf("is not a list of strings; write a,b or [\"a\", \"b\"]")
		}
		return v.List, nil
	}
	list := []string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// check holds a value against the enum and min tags.
func (f field) check(v reflect.Value) error {
	if words := f.enums(); words != nil {
		given := []string{fmt.Sprint(v.Interface())}
		if list, ok := v.Interface().([]string); ok {
			given = list
		}
		for _, word := range given {
			if slices.Contains(words, word) || word == "" && strings.HasPrefix(f.enum(), ",") {
				continue
			}
			if v.Kind() == reflect.Int {
				return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
			}
			return fmt.Errorf("%q is not known; %s", word, hint(word, words))
		}
	}
	if f.min() == "" {
		return nil
	}
	least := reflect.New(v.Type()).Elem()
	if err := setText(least, kindOf(f.typ), f.min()); err != nil {
		panic("config: min of " + f.key + ": " + err.Error())
	}
	if v.Int() < least.Int() {
		return fmt.Errorf("must be at least %s", f.min())
	}
	return nil
}

// spell writes a value as TOML would, for messages.
func spell(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case []any, []string:
		list := reflect.ValueOf(v)
		parts := make([]string, list.Len())
		for i := range parts {
			parts[i] = spell(list.Index(i).Interface())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		return "{…}"
	}
	return fmt.Sprint(value)
}
