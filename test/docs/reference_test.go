package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

func TestTheConfigurationPageIsWhatTheCommandPrints(t *testing.T) {
	printed, err := exec.CommandContext(t.Context(), harness.Binary(t), "config", "doc").Output()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != string(printed) {
		t.Error("docs/configuration.md is not what `guado config doc` prints; run: bin/guado config doc > docs/configuration.md")
	}
}
