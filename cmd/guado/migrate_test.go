package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStepsAreTakenByTheCommandAndTheFileSaysSo(t *testing.T) {
	const file = "# how far we are\nphase = 0 # so far\n\n[[app]]\ntarget = \"hello\"\nthreads = 2\n"
	dir, s := site(t, map[string]string{"guado.toml": file})
	text := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "guado.toml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	migrate := func(code int, want string, args ...string) {
		t.Helper()
		r := run(t, dir, append([]string{"migrate"}, args...)...)
		if all := r.out + r.err; r.code != code || !strings.Contains(all, want) {
			t.Errorf("guado migrate %v: exit code %d, wanted %d and %q\n%s", args, r.code, code, want, all)
		}
	}
	before := text()
	migrate(0, "forward  3", "status")
	migrate(1, "no request has been answered yet", "check", "0")
	get(t, s.url)
	migrate(1, "what can be attested of phase 0 is: application, tests", "check", "0", "--attest", "nothing")
	migrate(0, "1 requests answered, 0 with 5xx", "check", "0", "--attest", "tests")
	migrate(0, "ids", "check")
	migrate(1, "no phase 2", "check", "2")
	migrate(1, "not yet: phase 0: tests fails", "advance")
	if text() != before {
		t.Errorf("a step that was not taken has changed the file:\n%s", text())
	}
	migrate(0, "phase 3: users", "advance", "--attest", "tests")
	if want := strings.Replace(before, "phase = 0 #", "phase = 3 #", 1); text() != want {
		t.Errorf("the file is\n%s\nand not\n%s", text(), want)
	}
	get(t, s.url)
	migrate(1, "shadow", "advance")
	migrate(0, "phase 4", "advance", "--force")
	migrate(0, "phase 3", "rollback")
	migrate(0, "phase 0", "rollback")
	migrate(1, "is the first one", "rollback")
	if text() != before {
		t.Errorf("there and back, the file is\n%s", text())
	}
}

func TestAnApplicationThatFailsDoesNotWork(t *testing.T) {
	dir, s := site(t, map[string]string{
		"guado.toml": "[[app]]\ntarget = \"faulty\"\nthreads = 2\n",
		"faulty.py":  "def application(environ, start):\n    if environ[\"PATH_INFO\"] == \"/fails\":\n        raise RuntimeError\n    start(\"200 OK\", [])\n    return [b\"fine\"]\n",
	})
	for _, path := range []string{"/", "/fails", "/"} {
		get(t, s.url+path)
	}
	r := run(t, dir, "migrate", "check", "0", "--attest", "tests")
	if !strings.Contains(r.out, "3 requests answered, 1 of them with 5xx") || r.code != 1 {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if r = run(t, dir, "migrate", "check", "0", "--attest", "tests,application"); r.code != 0 {
		t.Errorf("where somebody knows of the error: exit code %d\n%s%s", r.code, r.out, r.err)
	}
}
