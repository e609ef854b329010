package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// golden holds text against a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; look at it and run go test ./internal/config -update", name)
	}
}

func TestWhatTheConfigurationPrintsOfItself(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "default.toml", DefaultFile())
	golden(t, "reference.md", Reference())
	golden(t, "schema.json", string(schema))
}

func TestEveryFieldIsDescribed(t *testing.T) {
	for _, s := range sections() {
		if s.doc == "" {
			t.Errorf("%s has no description", s.header)
		}
		for _, f := range s.fields {
			if f.doc() == "" || !strings.HasSuffix(f.doc(), ".") {
				t.Errorf("%s %s: description %q is no sentence", s.header, f.key, f.doc())
			}
			v := reflect.New(f.typ).Elem()
			setDefault(f, v) // panics over a tag that cannot be read
			if v.Kind() != reflect.Pointer {
				if err := f.check(v); f.defaultText() != "" && err != nil {
					t.Errorf("%s %s: its own default: %v", s.header, f.key, err)
				}
			}
		}
	}
}

// Uncommented, the default file sets every key to what it is anyway.
func TestTheDefaultFileIsAValidConfiguration(t *testing.T) {
	commented := regexp.MustCompile(`(?m)^# (\[+[a-z.]+\]+$|[a-z0-9_]+ = )`)
	text := commented.ReplaceAllString(DefaultFile(), "$1")
	tree, err := parse("default.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d := decoder{tree: tree}
	var c Config
	d.table(reflect.ValueOf(&c).Elem(), tree.root, "", "")
	if err := d.err(); err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(jsonTable(reflect.ValueOf(&c.Server).Elem()), jsonTable(reflect.ValueOf(&want.Server).Elem())) {
		got, _ := json.Marshal(jsonTable(reflect.ValueOf(&c.Server).Elem()))
		t.Errorf("the server of the file is not the default one: %s", got)
	}
}

func TestShowIsAFileThatMeansTheSame(t *testing.T) {
	dir := folder(t, map[string]string{"public/x": ""})
	text := "[server]\nlog_level = \"warn\"\n[server.limits]\nbody = \"2GiB\"\n" + shop + "threads = 3\nenv = { A = \"x\\\"y\", B = \"é\" }\nrequest_timeout = \"1m30s\"\n[[mount]]\napp = \"shop\"\n[[mount]]\npath = \"/public\"\nstatic = \"public\"\n"
	for _, all := range []bool{false, true} {
		c := mustLoad(t, dir, text)
		shown := c.Show(all)
		again, err := load(t, dir, shown)
		if err != nil {
			t.Fatalf("%v\n%s", err, shown)
		}
		a, _ := c.JSON()
		b, _ := again.JSON()
		if string(a) != string(b) {
			t.Errorf("all=%v: the shown file means\n%s\nnot\n%s", all, b, a)
		}
		if !strings.Contains(shown, "log_level = \"warn\"") || !strings.Contains(shown, "# guado.toml:2\n") {
			t.Errorf("no origin in\n%s", shown)
		}
	}
}

func TestShowHidesSecrets(t *testing.T) {
	c := mustLoad(t, t.TempDir(), shop+"[app.env]\nSECRET_KEY = \"abc\"\nDATABASE_URL = \"postgres://u:abc@h/\"\nLANG = \"it\"\n")
	text, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{c.Show(true), string(text)} {
		if strings.Contains(shown, "abc") || !strings.Contains(shown, "(hidden)") || !strings.Contains(shown, "it") {
			t.Errorf("shown:\n%s", shown)
		}
	}
}
