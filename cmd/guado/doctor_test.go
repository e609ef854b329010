package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado/internal/doctor"
)

func examined(t *testing.T, r result) map[string]doctor.Finding {
	t.Helper()
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}
	found := map[string]doctor.Finding{}
	for _, f := range report.Findings {
		if f.Area == "" || f.Value == "" || f.Verdict != doctor.OK && f.Advice == "" {
			t.Errorf("half a finding: %+v", f)
		}
		found[f.Check] = f
	}
	return found
}

func TestTheDoctorLooksAtAMachineBeforeTheServerRuns(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	r := run(t, dir, "doctor", "hello", "--kind", "wsgi", "--listen", "127.0.0.1:0")
	for _, want := range []string{"python of hello: CPython 3.", "memfd with seals: works", "open files: ", "listen 127.0.0.1:0: free", "no server answers", " ok, "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if r.code != exitOK {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if _, err := os.Stat(dir + "/__pycache__"); err == nil {
		t.Error("it imported the application")
	}
}

func TestTheDoctorFailsWhereTheServerWould(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	cmd := program(t, dir)
	cmd.Args = []string{"sh", "-c", `ulimit -n 512; exec "$0" doctor hello --listen 127.0.0.1:0 --json`, os.Args[0]}
	cmd.Path = "/bin/sh"
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("exit code %d (%v)", cmd.ProcessState.ExitCode(), err)
	}
	f := examined(t, result{out: string(out)})["open files"]
	if f.Verdict != doctor.Fail || !strings.HasPrefix(f.Value, "512 may be open") || !strings.Contains(f.Advice, "LimitNOFILE=") {
		t.Errorf("found %+v", f)
	}
	if r := run(t, dir, "doctor", "hello", "--python", "/nonexistent", "--listen", "127.0.0.1:0", "--json"); r.code != exitUsage && r.code != exitFailed {
		t.Errorf("no interpreter: exit code %d", r.code)
	}
	if r := run(t, dir, "doctor", "hello", "--socket", dir+"/none.sock"); r.code != exitNoServer {
		t.Errorf("no server where one was named: exit code %d: %s", r.code, r.err)
	}
	if r := run(t, dir, "doctor"); r.code != exitUsage {
		t.Errorf("nothing to look at: exit code %d", r.code)
	}
}

func TestTheDoctorLooksAtARunningServer(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello, "broken.py": "raise RuntimeError('no database')\n", "guado.toml": `
[server]
listen = ["127.0.0.1:0"]
state_dir = "state"
[[app]]
target = "hello"
[[app]]
target = "broken"
[[mount]]
app = "hello"
[[mount]]
path = "/broken"
app = "broken"
`})
	s := start(t, program(t, dir, "serve")).ready()
	r := run(t, dir, "doctor", "--json")
	found := examined(t, r)
	if f := found["running"]; f.Verdict != doctor.Fail || !strings.Contains(f.Value, fmt.Sprintf("pid %d as ", s.cmd.Process.Pid)) || !strings.Contains(f.Value, "group broken has no worker") {
		t.Errorf("found %+v", f)
	}
	if f := found["descriptors"]; f.Verdict != doctor.OK || !strings.Contains(f.Value, "are open") {
		t.Errorf("found %+v", f)
	}
	if f := found["admin socket"]; f.Verdict != doctor.OK || !strings.Contains(f.Value, "0600") || !strings.Contains(f.Value, "can steer the server") {
		t.Errorf("found %+v", f)
	}
	if r.code != exitFailed {
		t.Errorf("exit code %d", r.code)
	}
	s.signal(syscall.SIGTERM)
	s.end()
}
