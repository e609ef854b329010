package guado_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado"
)

// What a program has mounted by itself is in no file.
func TestAReloadKeepsTheGoHandlersOfTheProgram(t *testing.T) {
	s, _ := newSite(t, "")
	dir := t.TempDir()
	folder := filepath.Dir(write(t, dir, "page", "a page"))
	file := func(mounts string) string {
		return write(t, dir, "guado.toml", "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n"+mounts)
	}
	static := func(path string) string { return fmt.Sprintf("[[mount]]\npath = %q\nstatic = %q\n", path, folder) }
	load := func() (*guado.Config, error) { return guado.Load(filepath.Join(dir, "guado.toml")) }
	file(static("/one"))
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	log, stdout := s.Log, s.Stdout
	s.Server = guado.NewResolved(c)
	s.Log, s.Stdout, s.Stderr, s.Load = log, stdout, stdout, load
	s.Mount("/go", says("the program"))
	s.run()
	if got := s.get("/go"); got != "the program" {
		t.Errorf("at first: %q", got)
	}
	for _, path := range []string{"/two", "/three"} {
		file(static("/one") + static(path))
		done, err := s.Reload(t.Context())
		if err != nil || len(done.Changes) == 0 {
			t.Fatalf("%+v %v", done, err)
		}
		for asked, want := range map[string]string{"/go": "the program", "/one/page": "a page", path + "/page": "a page"} {
			if got := s.get(asked); got != want {
				t.Errorf("%s: %q, want %q", asked, got, want)
			}
		}
	}
	file(static("/one") + static("/go"))
	if _, err := s.Reload(t.Context()); err == nil {
		t.Error("the file has taken the place of a handler of the program")
	}
	if got := s.get("/go"); got != "the program" {
		t.Errorf("then: %q", got)
	}
}
