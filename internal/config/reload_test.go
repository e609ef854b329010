package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestEachKeyHasAClass(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sections() {
		for _, f := range s.fields {
			key := s.path + "." + f.key
			if _, ok := ClassOf(key); !ok {
				t.Errorf("%s: say in the table of reload.go what a change of it needs", key)
			}
			used[key] = true
			for table := key; table != ""; {
				table = above(table)
				used[table+".*"] = true
			}
		}
	}
	for key := range classes {
		if !used[key] {
			t.Errorf("the table of reload.go has a class for %s, which is no key", key)
		}
	}
}

// TestTheDocumentationSaysWhatNeedsARestart holds its table against that of reload.go,
// both ways.
func TestTheDocumentationSaysWhatNeedsARestart(t *testing.T) {
	text, err := os.ReadFile("../../docs/admin.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| needs restart \| (.*?) The value stays`).FindStringSubmatch(string(text))
	if row == nil {
		t.Fatal("docs/admin.md has no row of what needs a restart")
	}
	said := map[string]bool{}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
		said[strings.TrimPrefix(strings.Trim(m[1], "[]"), "server.")] = true
	}
	used := map[string]bool{}
	for _, s := range sections() {
		for _, f := range s.fields {
			key := s.path + "." + f.key
			if c, _ := ClassOf(key); c != Restart {
				continue
			}
			short := strings.TrimPrefix(key, "server.")
			switch {
			case said[short]:
				used[short] = true
			case said[s.path]:
				used[s.path] = true
			default:
				t.Errorf("docs/admin.md does not say that %s needs a restart", key)
			}
		}
	}
	for name := range said {
		if !used[name] {
			t.Errorf("docs/admin.md says that %s needs a restart, and it does not", name)
		}
	}
}

func loadText(t *testing.T, dir, text string) *Config {
	t.Helper()
	file := filepath.Join(dir, "guado.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Options{File: file, Environ: []string{"HOME=" + dir}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// before and after are two configurations, and differences is what a reload says of them.
const (
	before = `
[server]
log_level = "info"
listen = ["127.0.0.1:8000"]
log_format = "json"
[[group]]
name = "both"
threads = 2
[[app]]
name = "a"
target = "a"
group = "both"
[[app]]
name = "shop"
target = "shop"
env = { SECRET_KEY = "one", DEBUG = "0" }
[[app]]
name = "gone"
target = "gone"
[[mount]]
path = "/"
app = "a"
[[mount]]
path = "/shop"
app = "shop"
[[mount]]
path = "/old"
app = "gone"
`
	after = `
[server]
log_level = "debug"
listen = ["127.0.0.1:9000"]
[server.limits]
head = "64KiB"
[[app]]
name = "shop"
target = "shop"
threads = 4
request_timeout = 5
env = { SECRET_KEY = "two", DEBUG = "1" }
[[group]]
name = "both"
queue = 7
[[app]]
name = "a"
target = "a:other"
group = "both"
[[app]]
name = "new"
target = "new"
[[mount]]
path = "/"
app = "a"
[[mount]]
path = "/shop"
app = "shop"
[[mount]]
path = "/new"
app = "new"
`
	differences = `server.listen: ["127.0.0.1:8000"] -> ["127.0.0.1:9000"] (live;  )
server.log_level: "info" -> "debug" (live;  )
server.log_format: "json" -> "console" (needs restart;  )
server.limits.head: "32KiB" -> "64KiB" (live;  )
group.both.threads: 2 -> 8 (replaced workers; group both)
group.both.queue: 2048 -> 7 (live; group both)
app.shop.env: { DEBUG = "0", SECRET_KEY = "(hidden)" } -> { DEBUG = "1", SECRET_KEY = "(hidden)" } (replaced workers; group shop)
app.shop.threads: 8 -> 4 (replaced workers; group shop)
app.a.target: "a" -> "a:other" (replaced workers; app a)
app.gone: there ->  (replaced workers; app gone)
app.new:  -> there (replaced workers; app new)
app.shop.request_timeout:  -> "5s" (live; app shop)
mount./new:  -> there (live; mount /new)
mount./old: there ->  (live; mount /old)`
)

func TestTheDifferenceOfTwoConfigurationsNamesEachKeyWithItsClass(t *testing.T) {
	dir := t.TempDir()
	old := loadText(t, dir, before)
	next := loadText(t, dir, after)
	var got []string
	for _, c := range old.Diff(next) {
		table, element := c.About()
		got = append(got, fmt.Sprintf("%s: %s -> %s (%s; %s %s)", c.Key, c.Old, c.New, c.Class, table, element))
	}
	if text := strings.Join(got, "\n"); text != differences {
		t.Errorf("got\n%s\nwant\n%s", text, differences)
	}
	next.Keep(old)
	if next.Server.LogFormat != "json" || next.Server.LogLevel != "debug" {
		t.Errorf("kept: %+v", next.Server)
	}
}
