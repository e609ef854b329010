package guado

import (
	"regexp"
	"strings"
	"testing"

	"github.com/guado-server/guado/python"
)

func TestWorkersAreStartedWithTheLineOfTheirPackage(t *testing.T) {
	text, err := python.Files.ReadFile("guado/_bootstrap.py")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "LINE = (")
	if !ok {
		t.Fatal("no LINE")
	}
	line := ""
	for _, m := range regexp.MustCompile(`(?m)^    "(.*)"$`).FindAllStringSubmatch(rest, -1) {
		line += m[1]
	}
	if bootstrap != line {
		t.Errorf("the host's line is not the package's\n%s\n%s", bootstrap, line)
	}
}
