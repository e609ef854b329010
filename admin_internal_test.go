package guado

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/guado-server/guado/internal/admin"
)

// served beside readings and actions.
var always = []string{"GET /v1/logs", "GET /v1/openapi.yaml"}

func described(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(admin.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestEverythingThatTheAdminInterfaceHasIsDescribed is one half; that what is described
// is there and is so, is tested on a running server by cmd/guado.
func TestEverythingThatTheAdminInterfaceHasIsDescribed(t *testing.T) {
	served := slices.Clone(always)
	h := &host{base: &base{log: slog.New(slog.DiscardHandler)}, config: Default()}
	if err := h.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path := range h.watching.handlers() {
		served = append(served, "GET /v1/"+path)
	}
	for _, r := range h.readings() {
		served = append(served, "GET /v1/"+r.Path)
	}
	for _, a := range h.actions() {
		served = append(served, "POST /v1/"+a.Path)
	}
	var listed []string
	for path, item := range described(t).Paths.Map() {
		for method := range item.Operations() {
			listed = append(listed, method+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(listed)
	if !slices.Equal(served, listed) {
		t.Errorf("served:\n%s\n\ndescribed:\n%s", strings.Join(served, "\n"), strings.Join(listed, "\n"))
	}
}

// TestEachKeyOfAnAnswerIsDescribed walks the types of the answers.
func TestEachKeyOfAnAnswerIsDescribed(t *testing.T) {
	schemas := described(t).Components.Schemas
	for name, v := range map[string]any{
		"Status": Status{}, "Reload": Reload{}, "Worker": Worker{}, "Mount": MountStatus{}, "Program": ProgramStatus{}, "Record": admin.Record{},
	} {
		describes(t, name, schemas[name], reflect.TypeOf(v))
	}
}

func describes(t *testing.T, at string, s *openapi3.SchemaRef, v reflect.Type) {
	t.Helper()
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch {
	case v == reflect.TypeFor[time.Time](), v == reflect.TypeFor[json.RawMessage]():
		return
	case v.Kind() == reflect.Slice && s.Value.Items != nil:
		describes(t, at+"[]", s.Value.Items, v.Elem())
		return
	case v.Kind() != reflect.Struct:
		return
	}
	for _, f := range reflect.VisibleFields(v) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || f.Anonymous || key == "-" || key == "" {
			continue
		}
		p := property(s.Value, key)
		if p == nil {
			t.Errorf("%s has the key %q, of which internal/admin/openapi.yaml says nothing", at, key)
			continue
		}
		describes(t, at+"."+key, p, f.Type)
	}
}

// property finds a key in a schema or the parts that it is made of.
func property(s *openapi3.Schema, key string) *openapi3.SchemaRef {
	if p := s.Properties[key]; p != nil {
		return p
	}
	for _, part := range s.AllOf {
		if p := property(part.Value, key); p != nil {
			return p
		}
	}
	return nil
}
