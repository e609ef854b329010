package config

import (
	"reflect"
	"strings"
)

// field is one key of the configuration as its struct tags describe it; decoder,
// defaults, reference, schema and environment all walk these.
type field struct {
	key   string
	index []int // for reflect.Value.FieldByIndex
	typ   reflect.Type
	tag   reflect.StructTag
	group bool // of the embedded Process: a key of [[group]] that [[app]] has as shorthand
}

func (f field) doc() string  { return f.tag.Get("doc") }
func (f field) enum() string { return f.tag.Get("enum") }
func (f field) min() string  { return f.tag.Get("min") }
func (f field) path() string { return f.tag.Get("path") }

func (f field) defaultText() string { return f.tag.Get("default") }

// enums gives the allowed words without the empty one.
func (f field) enums() []string {
	if f.enum() == "" {
		return nil
	}
	return strings.Split(strings.TrimPrefix(f.enum(), ","), ",")
}

// kind is the shape of a field's value.
type kind int

const (
	kindTable  kind = iota // struct
	kindTables             // slice of structs
	kindStrings
	kindMap
	kindString
	kindInt
	kindInts
	kindBool
	kindDuration
	kindSize
)

var (
	durationType = reflect.TypeFor[Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

// kindOf tells the shape of t. A type it does not know is a mistake of this
// package, which TestEveryFieldIsDescribed finds.
func kindOf(t reflect.Type) kind {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case durationType:
		return kindDuration
	case sizeType:
		return kindSize
	}
	switch t.Kind() {
	case reflect.Struct:
		return kindTable
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return kindTables
		}
		if t.Elem().Kind() == reflect.Int {
			return kindInts
		}
		return kindStrings
	case reflect.Map:
		return kindMap
	case reflect.String:
		return kindString
	case reflect.Int:
		return kindInt
	case reflect.Bool:
		return kindBool
	}
	panic("config: no shape for " + t.String())
}

// fieldsOf lists the keys of a struct in the order of its declaration, those of
// embedded structs included.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous {
			for _, f := range fieldsOf(sf.Type) {
				f.index, f.group = append([]int{i}, f.index...), true
				fields = append(fields, f)
			}
			continue
		}
		key := sf.Tag.Get("toml")
		if key == "" || key == "-" {
			continue
		}
		fields = append(fields, field{key: key, index: []int{i}, typ: sf.Type, tag: sf.Tag})
	}
	return fields
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

func find(fields []field, key string) (field, bool) {
	for _, f := range fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}
