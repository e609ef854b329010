package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdoptWritesAFileThatServes(t *testing.T) {
	dir := project(t, map[string]string{
		"hello.py":     hello,
		"nginx.conf":   "server {\n  listen 127.0.0.1:0;\n  location / { proxy_pass http://127.0.0.1:8888; }\n  location ~ x { return 403; }\n}\n",
		"gunicorn.py":  "bind = '127.0.0.1:8888'\nwsgi_app = 'hello'\nthreads = 2\n",
		"there/x.toml": "",
	})
	r := run(t, dir, "adopt", "--nginx", "nginx.conf", "--gunicorn", "gunicorn.py", "-o", "guado.toml")
	if r.code != 0 || r.out != "" || !strings.Contains(r.err, "not carried over: nginx.conf:4: location ~ x: ") {
		t.Errorf("exit code %d\n%s\n%s", r.code, r.out, r.err)
	}
	if c := run(t, dir, "check"); c.code != 0 {
		t.Errorf("guado check: %s", c.err)
	}
	s := start(t, program(t, dir, "serve")).ready()
	if a := get(t, s.url); a != (answer{200, "hello"}) {
		t.Errorf("answer %+v", a)
	}

	before, err := os.ReadFile(filepath.Join(dir, "guado.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if r := run(t, dir, "adopt", "--gunicorn", "gunicorn.py", "-o", "guado.toml"); r.code != 1 || !strings.Contains(r.err, "is there already") {
		t.Errorf("over an existing file: exit code %d, %s", r.code, r.err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "guado.toml")); err != nil || string(after) != string(before) {
		t.Errorf("the existing file was changed: %v", err)
	}
	printed := run(t, dir, "adopt", "--nginx", "nginx.conf", "--gunicorn", "gunicorn.py")
	if printed.code != 0 || printed.out != string(before) {
		t.Errorf("on standard output: exit code %d\n%s", printed.code, printed.out)
	}
	for args, says := range map[string]string{
		"adopt":                        "--nginx FILE, --gunicorn CMD|FILE, --supervisord FILE",
		"adopt --nginx nowhere.conf":   "nowhere.conf: no such file",
		"adopt --supervisord hello.py": "supervisord: ",
	} {
		if r := run(t, dir, strings.Fields(args)...); r.code == 0 || !strings.Contains(r.err, says) {
			t.Errorf("%s: exit code %d, %s", args, r.code, r.err)
		}
	}
}
