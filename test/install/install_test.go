// Package install tests the two ways to get guado without a clone: the wheel and
// the Go module. Before it: make build. After it: nothing. Not here: what it serves.
package install

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"

	"github.com/guado-server/guado/internal/version"
	"github.com/guado-server/guado/test/harness"
)

// where is an application that says which package of ours its worker has.
const where = `
import sys
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [sys.modules["guado"].__file__.encode()]
`

func command(t *testing.T, dir string, environ []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

var address = regexp.MustCompile(`serves .*?(http://127\.0\.0\.1:\d+)`)

// serve runs a guado that was just installed, asks its application once, and gives
// the answer and what it printed until then.
func serve(t *testing.T, guado string, environ []string) (body, log string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "where.py"), []byte(where), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, guado, "serve", "--listen", "127.0.0.1:0", "where")
	cmd.Dir, cmd.Env = dir, environ
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	url := ""
	for lines := bufio.NewScanner(output); url == "" && lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	if url != "" {
		body = get(t, url)
	}
	cancel()
	rest, err := io.ReadAll(output)
	printed.Write(rest)
	if err := errors.Join(err, cmd.Wait()); err != nil && !errors.Is(err, context.Canceled) || url == "" {
		t.Fatalf("%s serve: %v\n%s", guado, err, printed.String())
	}
	return body, printed.String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// venv makes a clean virtual environment and gives its folder of commands.
func venv(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "venv")
	command(t, "", nil, basePython(t), "-m", "venv", dir)
	return filepath.Join(dir, "bin")
}

// basePython is an interpreter outside any virtual environment.
func basePython(t *testing.T) string {
	t.Helper()
	out := command(t, harness.Root(), nil, "tools/pythons.sh", "newest")
	_, path, _ := strings.Cut(strings.TrimSpace(out), " ")
	return path
}

// record checks every installed file against the wheel's list.
const record = `
import base64, hashlib, importlib.metadata, json, sys
dist = importlib.metadata.distribution("guado")
wrong = []
for f in dist.files:
    if f.hash is None:
        continue
    data = f.locate().read_bytes()
    if base64.urlsafe_b64encode(hashlib.new(f.hash.mode, data).digest()).rstrip(b"=").decode() != f.hash.value or f.size != len(data):
        wrong.append(str(f))
import guado
print(json.dumps({"wrong": wrong, "files": len(dist.files), "version": dist.version, "package": guado.__version__,
    "requires": dist.metadata["Requires-Python"], "license": dist.metadata["License-Expression"]}))
`

func TestTheWheelsInstallIntoACleanEnvironmentAndServe(t *testing.T) {
	dist := t.TempDir()
	python := basePython(t)
	made := strings.Fields(command(t, harness.Root(), nil, python, "tools/wheel.py", "--out", dist))
	if len(made) != 2 {
		t.Fatalf("wheels: %q", made)
	}
	for i, name := range []string{`^guado-` + regexp.QuoteMeta(version.Version) + `-py3-none-(manylinux_2_\d+|macosx_\d+_\d+)_\w+\.whl$`, `^guado-` + regexp.QuoteMeta(version.Version) + `-py3-none-any\.whl$`} {
		if !regexp.MustCompile(name).MatchString(filepath.Base(made[i])) {
			t.Errorf("%s is not called %s", made[i], name)
		}
	}
	for i, wheel := range made {
		t.Run([]string{"platform", "package alone"}[i], func(t *testing.T) {
			bin := venv(t)
			command(t, "", nil, filepath.Join(bin, "pip"), "install", "--quiet", "--no-index", "--disable-pip-version-check", wheel)
			var found struct {
				Wrong                      []string
				Files                      int
				Version, Package, Requires string
				License                    string
			}
			if err := json.Unmarshal([]byte(command(t, t.TempDir(), nil, filepath.Join(bin, "python"), "-c", record)), &found); err != nil {
				t.Fatal(err)
			}
			if len(found.Wrong) > 0 || found.Files < 10 || found.Version != version.Version || found.Package != version.Version ||
				found.Requires != ">=3.11" || found.License != "Apache-2.0" {
				t.Errorf("%+v", found)
			}
			binary := filepath.Join(bin, "guado")
			if i == 1 {
				if _, err := os.Stat(binary); !os.IsNotExist(err) {
					t.Errorf("the package alone has a command: %v", err)
				}
				testsOfTheDocumentation(t, bin)
				return
			}
			cache := t.TempDir()
			body, log := serve(t, binary, []string{"PATH=" + bin + ":/nowhere", "HOME=" + cache, "GUADO_CACHE_DIR=" + cache})
			if !strings.HasPrefix(body, cache) {
				t.Errorf("the worker runs %q and not the binary's own package", body)
			}
			if strings.Contains(log, "compiling") {
				t.Errorf("it was compiled although the wheel carries the extension:\n%s", log)
			}
		})
	}
}

// file is a block of Python in a page of the documentation, under its name.
var file = regexp.MustCompile("(?s)```python\n# (\\w+\\.py)\n(.*?)```")

// testsOfTheDocumentation runs what docs/testing.md shows, and checks its types.
func testsOfTheDocumentation(t *testing.T, bin string) {
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	blocks := file.FindAllSubmatch(page, -1)
	if len(blocks) < 4 {
		t.Fatalf("docs/testing.md has %d files", len(blocks))
	}
	for _, b := range blocks {
		if err := os.WriteFile(filepath.Join(dir, string(b[1])), b[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tools := []string{"install", "--quiet", "--disable-pip-version-check"}
	for name, pinned := range map[string]string{"pytest": "test/requirements.txt", "mypy": "tools/requirements.txt"} {
		text, err := os.ReadFile(filepath.Join(harness.Root(), filepath.FromSlash(pinned)))
		if err != nil {
			t.Fatal(err)
		}
		tools = append(tools, regexp.MustCompile(`(?m)^`+name+`==\S+`).FindString(string(text)))
	}
	command(t, dir, nil, filepath.Join(bin, "pip"), tools...)
	command(t, dir, nil, filepath.Join(bin, "python"), "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", ".")
	command(t, dir, nil, filepath.Join(bin, "python"), "-m", "mypy", "--strict", "--cache-dir", os.DevNull, ".")
}

func TestGoInstallFromAModuleArchiveCompilesTheExtensionAtFirstUse(t *testing.T) {
	m := module.Version{Path: "github.com/guado-server/guado", Version: "v0.0.1-test"}
	proxy, cache, bin := t.TempDir(), t.TempDir(), t.TempDir()
	publish(t, m, filepath.Join(proxy, m.Path, "@v"))
	// What the build of this repository has downloaded is itself a proxy.
	downloaded, usual, _ := strings.Cut(strings.TrimSpace(command(t, harness.Root(), nil, "go", "env", "GOMODCACHE", "GOPROXY")), "\n")
	command(t, t.TempDir(), []string{
		"GOPROXY=file://" + proxy + ",file://" + downloaded + "/cache/download," + usual,
		"GOMODCACHE=" + filepath.Join(cache, "mod"), "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOBIN=" + bin, "GOWORK=off",
	}, "go", "install", m.Path+"/cmd/guado@"+m.Version)

	home := t.TempDir()
	environ := []string{"PATH=" + filepath.Dir(basePython(t)) + ":" + os.Getenv("PATH"), "HOME=" + home, "GUADO_CACHE_DIR=" + filepath.Join(home, "cache")}
	for _, first := range []bool{true, false} {
		body, log := serve(t, filepath.Join(bin, "guado"), environ)
		if !strings.HasPrefix(body, home) {
			t.Errorf("the worker runs %q", body)
		}
		if strings.Contains(log, "compiling") != first {
			t.Errorf("first start: %v, but it printed:\n%s", first, log)
		}
	}
}

// publish puts the module, as a clone would have it, into a folder that is a proxy.
func publish(t *testing.T, m module.Version, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var files []zip.File
	for name := range strings.SplitSeq(command(t, harness.Root(), nil, "git", "ls-files", "-co", "--exclude-standard", "-z"), "\x00") {
		if name == "" {
			continue
		}
		if info, err := os.Lstat(filepath.Join(harness.Root(), name)); err == nil && info.Mode().IsRegular() {
			files = append(files, source(name))
		}
	}
	archive, err := os.Create(filepath.Join(dir, m.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(zip.Create(archive, m, files), archive.Close()); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(harness.Root(), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		m.Version + ".mod": string(mod), m.Version + ".info": fmt.Sprintf(`{"Version":%q}`, m.Version), "list": m.Version + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// source is a file of the repository, by its path there.
type source string

func (s source) Path() string { return filepath.ToSlash(string(s)) }
func (s source) Lstat() (os.FileInfo, error) {
	return os.Lstat(filepath.Join(harness.Root(), string(s)))
}
func (s source) Open() (io.ReadCloser, error) {
	return os.Open(filepath.Join(harness.Root(), string(s)))
}
