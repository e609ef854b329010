package runtime

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// A small package with the shape of the real one; its extension takes a second to
// compile and not a minute.
const (
	extensionSource = `#define Py_LIMITED_API 0x030b0000
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", NULL, 0, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
`
	buildSource = `import argparse, os, subprocess, sysconfig
p = argparse.ArgumentParser()
p.add_argument("--cc")
p.add_argument("--out")
options = p.parse_args()
out = os.path.join(options.out, "_core.abi3.so")
here = os.path.dirname(os.path.abspath(__file__))
subprocess.check_call([options.cc, "-shared", "-fPIC", "-I" + sysconfig.get_paths()["include"],
    os.path.join(here, "guado", "csrc", "core.c"), "-o", out])
with open(os.environ["COUNT"], "a") as f:
    f.write("built\n")
`
)

func small() fstest.MapFS {
	return fstest.MapFS{
		"guado/__init__.py":          {Data: []byte("NAME = 'guado'\n")},
		"guado/worker/boot.py":       {Data: []byte("")},
		"guado/__pycache__/x.pyc":    {Data: []byte("stale")},
		"guado/csrc/tests/fuzz.c":    {Data: []byte("#error not of the extension")},
		"guado/_core.asan.so":        {Data: []byte("a build of the sanitizers")},
		"guado/csrc/core.c":          {Data: []byte(extensionSource)},
		"build_ext.py":               {Data: []byte(buildSource)},
		"guado/worker/.boot.py.swp":  {Data: []byte("editor")},
		"guado/worker/handshake.pyi": {Data: []byte("")},
	}
}

// python finds a CPython of this machine that can build extensions: oldest or newest.
func python(t *testing.T, which string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../../tools/pythons.sh", which).Output()
	if err != nil {
		t.Fatalf("tools/pythons.sh: %v", err)
	}
	_, path, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	if !ok {
		t.Fatal("no CPython >= 3.11 with headers was found")
	}
	return path
}

func openCache(t *testing.T, dir string, files fs.FS, environ ...string) *Cache {
	t.Helper()
	c, err := Open(Options{Dir: dir, Files: files, Environ: environ, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// compiling gives an environment with a compiler, and a function that counts builds.
func compiling(t *testing.T) (environ []string, builds func() int) {
	t.Helper()
	count := filepath.Join(t.TempDir(), "count")
	return []string{"PATH=" + os.Getenv("PATH"), "COUNT=" + count}, func() int {
		data, err := os.ReadFile(count)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(data), "built")
	}
}

func find(t *testing.T, c *Cache, python string) *Interpreter {
	t.Helper()
	in, err := c.Find(t.Context(), python, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestTheExtensionIsCompiledOnceWhereNoneIsBuiltIn(t *testing.T) {
	environ, builds := compiling(t)
	dir := t.TempDir()
	var group sync.WaitGroup
	var mu sync.Mutex
	trees := map[string]bool{}
	for range 4 { // hosts that start at the same time
		group.Go(func() {
			c := openCache(t, dir, small(), environ...)
			in, err := c.Find(t.Context(), python(t, "newest"), dir)
			if err != nil {
				t.Error(err)
				return
			}
			tree, err := c.Package(t.Context(), in)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			trees[tree] = true
			mu.Unlock()
		})
	}
	group.Wait()
	if len(trees) != 1 || builds() != 1 {
		t.Errorf("trees %v, %d builds", trees, builds())
	}
	for tree := range trees {
		names := []string{}
		err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				rel, _ := filepath.Rel(tree, path)
				names = append(names, rel)
			}
			return err
		})
		want := []string{"build_ext.py", "guado/__init__.py", Extension, "guado/csrc/core.c", "guado/worker/boot.py", "guado/worker/handshake.pyi"}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("unpacked %q, %v", names, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// built compiles the small extension for real and gives files that carry it.
func built(t *testing.T) fstest.MapFS {
	t.Helper()
	environ, _ := compiling(t)
	c := openCache(t, t.TempDir(), small(), environ...)
	tree, err := c.Package(t.Context(), find(t, c, python(t, "oldest")))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(tree, Extension))
	if err != nil {
		t.Fatal(err)
	}
	files := small()
	files[Extension] = &fstest.MapFile{Data: data}
	return files
}

func TestABuiltInExtensionServesEveryPythonWithoutACompiler(t *testing.T) {
	c := openCache(t, t.TempDir(), built(t), "PATH=/nowhere")
	trees := map[string]bool{}
	for _, which := range []string{"oldest", "newest"} {
		tree, err := c.Package(t.Context(), find(t, c, python(t, which)))
		if err != nil {
			t.Fatal(err)
		}
		trees[tree] = true
	}
	if len(trees) != 1 {
		t.Errorf("several trees: %v", trees)
	}
}

func TestABuiltInExtensionThatDoesNotLoadIsReplacedByACompiledOne(t *testing.T) {
	files := small()
	files[Extension] = &fstest.MapFile{Data: []byte("of another machine")}
	environ, builds := compiling(t)
	c := openCache(t, t.TempDir(), files, environ...)
	in := find(t, c, python(t, "newest"))
	for range 2 {
		tree, err := c.Package(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(tree, in.key()) {
			t.Errorf("tree %q", tree)
		}
	}
	if builds() != 1 {
		t.Errorf("%d builds", builds())
	}
}

func TestADamagedCacheIsRepaired(t *testing.T) {
	environ, builds := compiling(t)
	dir := t.TempDir()
	c := openCache(t, dir, small(), environ...)
	in := find(t, c, python(t, "newest"))
	tree, err := c.Package(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(tree, "guado", "__init__.py")
	if err := os.WriteFile(file, []byte("raise SystemExit"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(tree, "guado", "worker")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Package(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "NAME = 'guado'\n" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(tree, "guado", "worker", "boot.py")); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "worker")); err != nil { // cleaned while the host runs
		t.Fatal(err)
	}
	if _, err := c.Package(t.Context(), in); err != nil || builds() != 2 {
		t.Errorf("after it was cleaned: %v, %d builds", err, builds())
	}
}

func TestWithoutACompilerTheErrorSaysWhatToInstall(t *testing.T) {
	c := openCache(t, t.TempDir(), small(), "PATH=/nowhere")
	in := find(t, c, python(t, "newest"))
	in.Headers = false
	_, err := c.Package(t.Context(), in)
	for _, part := range []string{"carries no C extension", "a C compiler and Python.h (looked for in " + in.Include, fmt.Sprintf("apt install gcc libc6-dev python3.%d-dev", in.Version[1]), "wheel"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not say %q", err, part)
		}
	}
}

func TestACompilerThatFailsIsQuoted(t *testing.T) {
	files := small()
	files["guado/csrc/core.c"] = &fstest.MapFile{Data: []byte("#error of the test\n")}
	environ, _ := compiling(t)
	c := openCache(t, t.TempDir(), files, environ...)
	_, err := c.Package(t.Context(), find(t, c, python(t, "newest")))
	if err == nil || !strings.Contains(err.Error(), "could not be compiled for CPython") || !strings.Contains(err.Error(), "of the test") {
		t.Errorf("%v", err)
	}
}

func TestAFolderThatOthersCanWriteIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the mistake under test
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, Files: small()})
	if err == nil || !strings.Contains(err.Error(), "can be written by others") || !strings.Contains(err.Error(), "GUADO_CACHE_DIR") {
		t.Errorf("%v", err)
	}
	fresh := filepath.Join(t.TempDir(), "a", "b")
	openCache(t, fresh, small())
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with %v, %v", info.Mode(), err)
	}
}

// venv makes a virtual environment without pip.
func venv(t *testing.T, dir string) string {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), python(t, "newest"), "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func TestTheInterpreterIsLookedForInOrder(t *testing.T) {
	project, other := t.TempDir(), venv(t, filepath.Join(t.TempDir(), "env"))
	onPath := t.TempDir()
	if err := os.Symlink(python(t, "oldest"), filepath.Join(onPath, "python3")); err != nil {
		t.Fatal(err)
	}
	look := func(named string, environ ...string) *Interpreter {
		t.Helper()
		in, err := openCache(t, t.TempDir(), small(), environ...).Find(t.Context(), named, project)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	if in := look("", "PATH="+onPath); in.Source != "PATH" || in.VirtualEnv != "" {
		t.Errorf("PATH: %+v", in)
	}
	if in := look("", "PATH="+onPath, "VIRTUAL_ENV="+other); in.Source != "VIRTUAL_ENV" || in.VirtualEnv != other {
		t.Errorf("VIRTUAL_ENV: %+v", in)
	}
	beside := venv(t, filepath.Join(other, "..", "file", ".venv"))
	in, err := openCache(t, t.TempDir(), small(), "PATH="+onPath, "VIRTUAL_ENV="+other).Find(t.Context(), "", project, filepath.Dir(beside))
	if err != nil || in.Source != ".venv" || in.VirtualEnv != beside {
		t.Errorf(".venv beside the file: %+v, %v", in, err)
	}
	own := venv(t, filepath.Join(project, ".venv"))
	if in := look("", "PATH="+onPath, "VIRTUAL_ENV="+other); in.Source != ".venv" || in.VirtualEnv != own || filepath.Dir(in.Executable) != filepath.Join(own, "bin") {
		t.Errorf(".venv: %+v", in)
	}
	for _, named := range []string{other, filepath.Join(other, "bin", "python")} {
		if in := look(named, "PATH="+onPath); in.VirtualEnv != other {
			t.Errorf("%s: %+v", named, in)
		}
	}
	if in := look("python3", "PATH="+onPath); in.Source != "--python" {
		t.Errorf("command: %+v", in)
	}
}

func TestInterpretersThatWillNotDoAreRefusedInWords(t *testing.T) {
	dir := t.TempDir()
	fake := func(name, answer string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+answer+"\n"), 0o700); err != nil { //nolint:gosec // it must be run
			t.Fatal(err)
		}
		return path
	}
	newer := filepath.Join(dir, "python3.12")
	if err := os.Symlink(python(t, "newest"), newer); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone")
	if err := os.Symlink("/nowhere/python3", gone); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil { //nolint:gosec // a folder of the test
		t.Fatal(err)
	}
	answer := func(implementation string, minor int, free bool) string {
		return fmt.Sprintf(`echo '{"executable":"/x","implementation":%q,"version":[3,%d,1],"free_threaded":%v}'`, implementation, minor, free)
	}
	for named, want := range map[string]string{
		fake("old", answer("cpython", 9, false)):               "CPython 3.9.1 is too old; workers need 3.11 or newer; " + newer + " is on the PATH: use --python python3.12",
		fake("pypy", answer("pypy", 11, false)):                "is pypy 3.11.1; workers run on CPython 3.11 or newer",
		fake("free", answer("cpython", 13, true)):              "CPython 3.13.1 is a free-threaded build",
		fake("cat", "echo hello"):                              `answered "hello" instead of what it is`,
		fake("broken", "echo no module encodings >&2; exit 1"): "cannot be run: exit status 1: no module encodings",
		gone:                       "is a link to /nowhere/python3, which is gone; make the virtual environment again",
		empty:                      "has no interpreter",
		filepath.Join(dir, "nope"): "no such file",
		"python9.9":                `python "python9.9" is not on the PATH`,
	} {
		_, err := openCache(t, t.TempDir(), small(), "PATH="+dir).Find(t.Context(), named, dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\ndoes not say %q", filepath.Base(named), err, want)
		}
	}
	_, err := openCache(t, t.TempDir(), small(), "PATH=/nowhere").Find(t.Context(), "", dir)
	if err == nil || !strings.Contains(err.Error(), "no Python was found") {
		t.Errorf("nothing anywhere: %v", err)
	}
}

func TestAnInterpreterIsAskedOnceAndAgainWhenItsFileChanges(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	copied := filepath.Join(dir, "python3")
	if err := os.Symlink(python(t, "newest"), copied); err != nil {
		t.Fatal(err)
	}
	c := openCache(t, cache, small())
	first := find(t, c, copied)
	remembered, err := filepath.Glob(filepath.Join(cache, "interpreters", "*.json"))
	if err != nil || len(remembered) != 1 {
		t.Fatalf("remembered %v, %v", remembered, err)
	}
	if err := os.WriteFile(remembered[0], []byte(`{"executable":"/remembered","implementation":"cpython","version":[3,12,0]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if in := find(t, c, copied); in.Executable != "/remembered" {
		t.Errorf("asked again: %+v", in)
	}
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(python(t, "oldest"), copied); err != nil {
		t.Fatal(err)
	}
	if in := find(t, c, copied); in.Executable == "/remembered" || in.Version == first.Version && python(t, "oldest") != python(t, "newest") {
		t.Errorf("not asked again: %+v", in)
	}
}

func TestTheEnvironmentIsThatOfTheVirtualEnvironment(t *testing.T) {
	in := &Interpreter{Executable: "/v/bin/python", VirtualEnv: "/v"}
	got := in.Environ([]string{"A=1", "PATH=/usr/bin:/v/bin", "VIRTUAL_ENV=/old", "PYTHONHOME=/h"})
	if want := []string{"A=1", "VIRTUAL_ENV=/v", "PATH=/v/bin:/usr/bin"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	in = &Interpreter{Executable: "/usr/bin/python3"}
	got = in.Environ([]string{"PATH=/usr/local/bin:/usr/bin", "VIRTUAL_ENV=/old", "PYTHONHOME=/h"})
	if want := []string{"PYTHONHOME=/h", "PATH=/usr/local/bin:/usr/bin"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	in = &Interpreter{Executable: "/opt/py/bin/python3"}
	if got = in.Environ(nil); !slices.Equal(got, []string{"PATH=/opt/py/bin"}) {
		t.Errorf("got %q", got)
	}
}

func TestASlowCompilationOfAnotherHostIsWaitedForAndCanBeCalledOff(t *testing.T) {
	environ, _ := compiling(t)
	dir := t.TempDir()
	c := openCache(t, dir, small(), environ...)
	in := find(t, c, python(t, "newest"))
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := openCache(t, dir, small(), environ...).Package(ctx, in)
		done <- err
	}()
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("called off: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Package(t.Context(), in); err != nil {
		t.Error(err)
	}
}
