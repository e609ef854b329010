package js_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/js"
)

func TestTheClientIsOneModuleThatImportsNothing(t *testing.T) {
	text := string(js.Client)
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "import ") {
			t.Errorf("it has %q", line)
		}
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	file := filepath.Join(t.TempDir(), "client.mjs")
	if err := os.WriteFile(file, js.Client, 0o600); err != nil {
		t.Fatal(err)
	}
	const names = `import(process.argv[1]).then((m) => console.log(["open", "connect", "Page", "PushError", "Typed"].filter((n) => !(n in m)).join()))`
	out, err := exec.CommandContext(t.Context(), node, "-e", names, file).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("a browser would miss: %s %v", out, err)
	}
}
