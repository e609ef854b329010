// Package docs runs every command that README.md and docs/*.md show, in order, one
// shell per page, in a fresh folder with guado on the PATH.
//
// A fenced block with the info string "console" holds commands ("$ …", continued
// while a line ends in a backslash or a here-document is open) and the output that
// must come. In expected output "…" stands for anything; lines may be left out
// between lines shown. A command that ends in "&" is waited for until its server
// answers; not on README.md, which newcomers paste. Port 8000 is replaced by a free one.
package docs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

type command struct {
	line   int
	text   string
	expect []string
}

var hereDoc = regexp.MustCompile(`<<-?\s*'?"?(\w+)`)

// commands reads the console blocks of a page.
func commands(page string) []command {
	var all []command
	inBlock, end := false, ""
	for n, line := range strings.Split(page, "\n") {
		last := len(all) - 1
		switch {
		case !inBlock:
			inBlock = strings.TrimSpace(line) == "```console"
		case end != "":
			all[last].text += "\n" + line
			if strings.TrimSpace(line) == end {
				end = ""
			}
		case strings.TrimSpace(line) == "```":
			inBlock = false
		case strings.HasPrefix(line, "$ "):
			all = append(all, command{line: n + 1, text: line[2:]})
			if m := hereDoc.FindStringSubmatch(line); m != nil {
				end = m[1]
			}
		case last >= 0 && strings.HasSuffix(all[last].text, "\\"):
			all[last].text += "\n" + line
		case last >= 0 && strings.TrimSpace(line) != "":
			all[last].expect = append(all[last].expect, line)
		}
	}
	return all
}

// script runs the commands and marks where the output of each begins and ends.
func script(all []command, pasted bool) string {
	var b strings.Builder
	b.WriteString("exec 2>&1\nset -m\n")
	for i, c := range all {
		fmt.Fprintf(&b, "echo '@@begin %d'\n%s\n", i, c.text)
		if !pasted && strings.HasSuffix(strings.TrimSpace(c.text), "&") {
			b.WriteString("for i in $(seq 150); do curl -s -o /dev/null http://127.0.0.1:8000/ && break; sleep 0.2; done\n")
		}
		fmt.Fprintf(&b, "echo \"@@end %d $?\"\n", i)
	}
	b.WriteString("for job in $(jobs -p); do kill $job; done\nwait\n")
	return b.String()
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestEveryCommandInTheDocumentationWorks(t *testing.T) {
	pages := []string{filepath.Join(harness.Root(), "README.md")}
	more, err := filepath.Glob(filepath.Join(harness.Root(), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, more...) {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if all := commands(string(text)); len(all) > 0 {
				run(t, filepath.Base(page), all)
			}
		})
	}
}

func TestTheReadmeLinksEveryPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(harness.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(harness.Root(), "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		if link := "](docs/" + filepath.Base(page) + ")"; !strings.Contains(string(text), link) {
			t.Errorf("README.md has no link %s", link)
		}
	}
}

func run(t *testing.T, page string, all []command) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	port := freePort(t)
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.ReplaceAll(script(all, page == "README.md"), "8000", port))
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(),
		"PATH="+filepath.Dir(harness.Binary(t))+":"+filepath.Dir(harness.Python(t, "newest"))+":"+os.Getenv("PATH"),
		"GUADO_REPO="+harness.Root(), "PORT="+port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Errorf("the page's shell: %v", err)
	}
	for i, c := range all {
		got, status := output(out.String(), i)
		at := fmt.Sprintf("%s:%d: $ %s", page, c.line, c.text)
		if status != "0" && !strings.Contains(c.text, "# fails") {
			t.Errorf("%s\nended with status %q:\n%s", at, status, got)
		}
		if missing := firstMissing(strings.ReplaceAll(got, port, "8000"), c.expect); missing != "" {
			t.Errorf("%s\ndid not print %q, but:\n%s", at, missing, got)
		}
	}
	if t.Failed() {
		t.Logf("everything it printed:\n%s", out.String())
	}
}

func output(all string, i int) (text, status string) {
	_, rest, _ := strings.Cut(all, fmt.Sprintf("@@begin %d\n", i))
	text, rest, found := strings.Cut(rest, fmt.Sprintf("@@end %d ", i))
	if !found {
		return text, "never ended"
	}
	status, _, _ = strings.Cut(rest, "\n")
	return text, status
}

// firstMissing looks for the expected lines in order and gives the first that is not there.
func firstMissing(got string, expect []string) string {
	for _, line := range expect {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*")
		at := regexp.MustCompile("(?m)" + pattern).FindStringIndex(got)
		if at == nil {
			return line
		}
		got = got[at[1]:]
	}
	return ""
}
