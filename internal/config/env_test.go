package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWorkersGetTheHostsEnvironmentAndWhatTheGroupSays(t *testing.T) {
	dir := folder(t, map[string]string{"env": "# comment\nexport FROM_FILE=\"a b\"\nBOTH=file\n", "secret": "s3cret\n"})
	p := Process{EnvFile: filepath.Join(dir, "env"), Env: map[string]string{"BOTH": "env", "LANG": "it"}, SecretEnv: map[string]string{"KEY": filepath.Join(dir, "secret")}}
	got, err := p.Environ([]string{"PATH=/bin", "LANG=de", "GUADO__SERVER__LISTEN=x", "LISTEN_FDS=1", "NOTIFY_SOCKET=/n"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"BOTH=env", "FROM_FILE=a b", "KEY=s3cret", "LANG=it", "PATH=/bin"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestASecretIsReadAnewForEachWorker(t *testing.T) {
	dir := folder(t, map[string]string{"secret": "one"})
	p := Process{SecretEnv: map[string]string{"KEY": filepath.Join(dir, "secret")}}
	for _, value := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Environ(nil); err != nil || !slices.Equal(got, []string{"KEY=" + value}) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Environ(nil); err == nil || !strings.Contains(err.Error(), "secret_env KEY") {
		t.Errorf("without its file: %v", err)
	}
}
