package chaos

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

func TestAWorkerThatTheKernelKillsForWantOfMemoryIsNamedAndReplaced(t *testing.T) {
	procs := harness.MemoryCgroup(t, 512<<20)
	dir := t.TempDir()
	// The host lives in the cgroup from its first instruction, as in a container.
	limited := filepath.Join(dir, "limited")
	script := fmt.Sprintf("#!/bin/sh\necho $$ >%q && exec %q serve --config \"$1\"\n", procs, harness.Binary(t))
	if err := os.WriteFile(limited, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = %q\n", dir+"/admin.sock")
	for _, mode := range []string{"hoard", "good"} {
		config += fmt.Sprintf("[[app]]\nname = %q\ntarget = \"faulty:application\"\ndir = %q\npython = %q\nenv = {MODE = %q}\n", mode, harness.Apps(), harness.Python(t, "newest"), mode)
		if mode == "hoard" {
			config += "oom_score_adj = 1000\n" // it goes first
		}
		config += fmt.Sprintf("[[mount]]\npath = \"/%s\"\napp = %q\n", mode, mode)
	}
	s := harness.Start(t, harness.Options{Config: config, Binary: limited})
	c := harness.Client(t, "http1")
	before, good := text(t, c, s.URL+"/hoard"), text(t, c, s.URL+"/good")
	res, err := c.Get(s.URL + "/hoard/all")
	if err != nil || res.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v %v", res, err)
	}
	_ = res.Body.Close()
	s.WaitLog(`worker died.*for want of memory: signal: killed by the kernel: out of memory \(OOM\)`, time.Minute)
	if after := text(t, c, s.URL+"/hoard"); after == before {
		t.Error("the same worker answers")
	}
	if now := text(t, c, s.URL+"/good"); now != good {
		t.Errorf("the other app was worker %s and is %s", good, now)
	}
	answer, err := exec.Command(harness.Binary(t), "workers", "--json", "--socket", dir+"/admin.sock").Output()
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(answer)), ""), `"restarts":{"oom":1}`) {
		t.Errorf("%v\n%s", err, answer)
	}
}
