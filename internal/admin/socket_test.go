package admin

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustListen(t *testing.T, path string, beside bool) *socket {
	t.Helper()
	s, err := listen(path, beside, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.listener.Close() }) // some tests close it themselves
	return s
}

func TestTheSocketIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "admin.sock")
	mustListen(t, path, true)
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("in the folder: %v %v", left, err)
	}
}

func TestASocketThatADeadHostLeftIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	dead := mustListen(t, path, false)
	if err := dead.listener.Close(); err != nil { // as kill -9 does, the file stays
		t.Fatal(err)
	}
	s := mustListen(t, path, false)
	if err := dead.remove(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("the end of the first host took the socket of the second away: %v", err)
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestALivingHostKeepsItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	mustListen(t, path, false)
	if _, err := listen(path, false, false); !errors.Is(err, errInUse) {
		t.Errorf("a named socket was taken: %v", err)
	}
	second := mustListen(t, path, true)
	if second.path == path || !strings.HasPrefix(second.path, strings.TrimSuffix(path, "sock")) {
		t.Errorf("the second host is at %s", second.path)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 2 {
		t.Errorf("in the folder: %v %v", left, err)
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path, true, false); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("error %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("%q %v", text, err)
	}
}

func TestAFolderThatOthersCanWriteIsNotChosen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	if _, err := listen(filepath.Join(dir, "admin.sock"), true, false); err == nil || !strings.Contains(err.Error(), "not this account's alone") {
		t.Errorf("error %v", err)
	}
	mustListen(t, filepath.Join(dir, "admin.sock"), false) // the operator named it
}
