package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// excluded are cases of the suite that are not run, with the reason. There are none.
var excluded = map[string]string{}

// TestAutobahn runs all cases of the public Autobahn suite, as kosoku drives them,
// against an ASGI application that echoes: without and with compression.
func TestAutobahn(t *testing.T) {
	kosoku := os.Getenv("GUADO_KOSOKU")
	if kosoku == "" {
		t.Skip("GUADO_KOSOKU names no kosoku: run make conformance")
	}
	for _, mode := range []struct{ name, transport, compression string }{
		{"without compression", "shm", "false"},
		{"with compression", "socket", "true"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			if mode.transport == "shm" {
				mode.transport = harness.Transports()[0]
			}
			// Cases 12 and 13 take a message for broken that is too short to be worth compressing.
			s := harness.Start(t, harness.Options{Transport: mode.transport, Config: fmt.Sprintf(
				"[server]\nlisten = [\"127.0.0.1:0\"]\n[server.websocket]\ncompression = %s\ncompression_min = 0\n"+
					"[[app]]\nname = \"echo\"\ntarget = \"sockets:app\"\ndir = %q\npython = %q\n[[mount]]\npath = \"/\"\napp = \"echo\"\n",
				mode.compression, harness.Apps(), harness.Python(t, "newest"))})
			out := t.TempDir()
			args := []string{"-o", out, "-p", "4"}
			for name := range excluded {
				args = append(args, "-x", name)
			}
			// Its exit code speaks of what the reports say case by case.
			text, ran := exec.Command(kosoku, append(args, "ws://"+s.Addr+"/echo")...).CombinedOutput() //nolint:noctx // go test's own timeout
			report, err := os.ReadFile(filepath.Join(out, "index.json"))
			if err != nil {
				t.Fatalf("%v; %s: %v\n%s", err, kosoku, ran, text)
			}
			var agents map[string]map[string]struct {
				Behavior      string `json:"behavior"`
				BehaviorClose string `json:"behaviorClose"`
			}
			if err := json.Unmarshal(report, &agents); err != nil {
				t.Fatal(err)
			}
			verdicts := map[string]int{}
			for _, cases := range agents {
				for name, c := range cases {
					verdicts[c.Behavior]++
					switch {
					case c.Behavior == "UNIMPLEMENTED" && mode.compression == "false":
					case c.Behavior != "OK" && c.Behavior != "NON-STRICT" && c.Behavior != "INFORMATIONAL",
						c.BehaviorClose != "OK" && c.BehaviorClose != "INFORMATIONAL":
						t.Errorf("case %s: %s, close %s", name, c.Behavior, c.BehaviorClose)
					}
				}
			}
			t.Logf("%v", verdicts)
			if verdicts["OK"] < 250 {
				t.Errorf("only %d cases passed:\n%s", verdicts["OK"], text)
			}
		})
	}
}
