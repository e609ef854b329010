package adopt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/adopt"
	"github.com/guado-server/guado/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldens are the cases of testdata.
var goldens = []string{"mission", "django", "awkward", "printed", "shop", "several"}

// place is where the sites of the golden files live; a test has them elsewhere.
const place = "/srv/site"

var columns = regexp.MustCompile(` +# `)

// site copies a case to a folder where its files are.
func site(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	from := filepath.Join("testdata", name)
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		put(t, filepath.Join(dir, rel), strings.NewReplacer(place, dir, "{uid}", strconv.Itoa(os.Geteuid())).Replace(string(text)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := os.ReadFile(filepath.Join(from, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(tree)) {
		put(t, filepath.Join(dir, strings.TrimSpace(path)+map[bool]string{true: "keep"}[strings.HasSuffix(strings.TrimSpace(path), "/")]), "")
	}
	certificate(t, filepath.Join(dir, "tls"))
	// "secret", as htpasswd -B writes it.
	put(t, filepath.Join(dir, "htpasswd"), "ada:$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe\n")
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	put(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// exists gives the path of a source when the case has it.
func exists(dir, name string) string {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func TestRealisticConfigurationsAreTakenOver(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range goldens {
		t.Run(name, func(t *testing.T) {
			dir := site(t, name)
			o := adopt.Options{
				Nginx: exists(dir, "nginx.conf"), Supervisord: exists(dir, "supervisord.conf"), Gunicorn: exists(dir, "gunicorn.conf.py"),
				Dir: dir, Python: python, Environ: os.Environ(),
			}
			if exists(dir, "settings") != "" { // what a real gunicorn has printed
				put(t, filepath.Join(dir, "bin", "gunicorn"), "#!/bin/sh\ncat '"+dir+"/settings'\n")
				if err := os.Chmod(filepath.Join(dir, "bin", "gunicorn"), 0o700); err != nil {
					t.Fatal(err)
				}
				o.Gunicorn = filepath.Join(dir, "bin", "gunicorn") + " shop:application"
			}
			result, err := adopt.Adopt(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(config.Options{File: filepath.Join(dir, "guado.toml"), Text: []byte(result.Text), Workdir: dir, Environ: []string{"HOME=" + dir}})
			if err != nil {
				t.Errorf("guado check refuses it: %v", err)
			} else if len(c.Mounts) == 0 {
				t.Error("nothing is mounted")
			}
			// Columns depend on how long the name of the test's folder is.
			text := columns.ReplaceAllString(strings.ReplaceAll(result.Text, dir, place), "  # ")
			golden(t, filepath.Join("testdata", name, "guado.toml"), text)
			for _, missed := range result.Missed {
				if !strings.Contains(result.Text, missed) {
					t.Errorf("the file does not say %q", missed)
				}
			}
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; look at it and run go test ./internal/adopt -update:\n%s", path, got)
	}
}

func TestTheEnvironmentOfGunicornIsFoundByItsCommand(t *testing.T) {
	dir := t.TempDir()
	settings, err := os.ReadFile(filepath.Join("testdata", "printed", "settings"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "venv", "pyvenv.cfg"), "")
	put(t, filepath.Join(dir, "venv", "bin", "gunicorn"), "#!/bin/sh\ncat <<'END'\n"+string(settings)+"\nEND\n")
	if err := os.Chmod(filepath.Join(dir, "venv", "bin", "gunicorn"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(dir, "venv", "bin")+":"+os.Getenv("PATH"))
	for _, command := range []string{"venv/bin/gunicorn", filepath.Join(dir, "venv/bin/gunicorn"), "gunicorn"} {
		result, err := adopt.Adopt(t.Context(), adopt.Options{Gunicorn: command + " shop:application", Dir: dir, Environ: os.Environ()})
		if err != nil {
			t.Fatal(err)
		}
		if want := `python = "` + filepath.Join(dir, "venv") + `"`; !strings.Contains(result.Text, want) {
			t.Errorf("%s: no %s in\n%s", command, want, result.Text)
		}
	}
}

func TestSourcesThatCannotBeReadAreNamed(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "broken.conf"), "server { listen 80\n")
	put(t, filepath.Join(dir, "broken.py"), "raise ValueError('no settings')\n")
	put(t, filepath.Join(dir, "broken.ini"), "[program:x]\ncommand = \"unclosed\n")
	for want, o := range map[string]adopt.Options{
		"name what is to be taken over": {},
		"broken.conf":                   {Nginx: "broken.conf"},
		"no settings":                   {Gunicorn: "broken.py"},
		"did not print its settings":    {Gunicorn: "echo shop:application"},
		"[program:x]":                   {Supervisord: "broken.ini"},
	} {
		o.Dir, o.Environ = dir, os.Environ()
		if _, err := adopt.Adopt(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}
