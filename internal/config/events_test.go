package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheSocketOfProgramsLiesWhereWhatRunsBelongs(t *testing.T) {
	run := t.TempDir()
	for _, c := range []struct {
		name, file string
		environ    []string
		want       string // the folder; empty: as it is found
		derived    bool
	}{
		{"of a service", "", []string{"RUNTIME_DIRECTORY=" + run + ":/elsewhere"}, run, true},
		{"named", "[admin]\npush_socket = \"run/push.sock\"\n", nil, "run", false},
		{"without a place", "", []string{"RUNTIME_DIRECTORY=" + run + strings.Repeat("/long", 30)}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "guado.toml")
			if err := os.WriteFile(file, []byte(c.file+"[[mount]]\npath = \"/\"\nstatic = \".\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := Load(Options{File: file, Environ: append(c.environ, "HOME="+dir)})
			if err != nil {
				t.Fatal(err)
			}
			a := cfg.Admin
			want := c.want
			if want != "" && !filepath.IsAbs(want) {
				want = filepath.Join(dir, want)
			}
			if want != "" && filepath.Dir(a.PushSocket) != want || len(a.PushSocket) > longestSocket || a.PushDerived != c.derived || !filepath.IsAbs(a.PushSocket) {
				t.Errorf("%q, derived %v", a.PushSocket, a.PushDerived)
			}
		})
	}
}

func TestASocketOfProgramsThatIsTooLongIsAnError(t *testing.T) {
	c := Default()
	c.Admin.PushSocket = "/" + strings.Repeat("x", longestSocket)
	if err := c.Resolve(nil); err == nil || !strings.Contains(err.Error(), "too long for a socket") {
		t.Errorf("%v", err)
	}
}
