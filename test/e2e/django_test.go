package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// shop is the tour's Django site on one interpreter.
type shop struct {
	python, dir string
	data        string // migrated file database, collected static files, an admin user
	upload      int    // bytes
}

func newShop(t *testing.T, which string, upload int) *shop {
	t.Helper()
	s := &shop{python: harness.Python(t, which), dir: filepath.Join(harness.Root(), "examples", "tour", "shop"), data: t.TempDir(), upload: upload}
	for _, args := range [][]string{{"migrate", "-v", "0"}, {"collectstatic", "--noinput", "-v", "0"}, {"createsuperuser", "--noinput"}} {
		cmd := exec.Command(s.python, append([]string{"manage.py"}, args...)...)
		cmd.Dir, cmd.Env = s.dir, append(os.Environ(), s.env(s.data)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("manage.py %v: %v\n%s", args, err, out)
		}
	}
	return s
}

func (s *shop) env(data string) []string {
	return []string{
		"TOUR_DATA=" + data, "DJANGO_SUPERUSER_USERNAME=admin", "DJANGO_SUPERUSER_PASSWORD=ford-2026",
		"DJANGO_SUPERUSER_EMAIL=admin@example.com", "PYTHONDONTWRITEBYTECODE=1",
	}
}

// serve starts the site on a copy of its data.
func (s *shop) serve(t *testing.T, target, transport, lane string) *harness.Server {
	t.Helper()
	data := t.TempDir()
	if err := os.CopyFS(data, os.DirFS(s.data)); err != nil {
		t.Fatal(err)
	}
	return harness.Start(t, harness.Options{
		Args: []string{target}, Dir: s.dir, Env: s.env(data), Python: s.python, Transport: transport, TLS: lane == "http2",
	})
}

func everySite(t *testing.T, body func(t *testing.T, s *harness.Server, c *http.Client, upload int)) {
	t.Helper()
	// The large upload is for what carries it, which is the same for each Python.
	for which, size := range map[string]int{"oldest": 20 << 20, "newest": 200 << 20} {
		shop := newShop(t, which, size)
		for _, target := range []string{"site_wsgi:application", "site_asgi:application"} {
			for _, transport := range harness.Transports() {
				for _, lane := range harness.Lanes() {
					t.Run(strings.Join([]string{which, target[5:9], transport, lane}, "/"), func(t *testing.T) {
						body(t, shop.serve(t, target, transport, lane), harness.Client(t, lane), shop.upload)
					})
				}
			}
		}
	}
}

var csrfField = regexp.MustCompile(`name="csrfmiddlewaretoken" value="(\w+)"`)

// csrf opens a page with a form and gives its token.
func csrf(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	res, body := get(t, c, url)
	m := csrfField.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no form at %s: %d %.300s", url, res.StatusCode, body)
	}
	return m[1]
}

func post(t *testing.T, c *http.Client, target string, form url.Values) (*http.Response, string) {
	t.Helper()
	return do(t, c, request(t, "POST", target, strings.NewReader(form.Encode()),
		"Content-Type", "application/x-www-form-urlencoded", "Referer", target))
}

func TestDjangoRunsUnchanged(t *testing.T) {
	everySite(t, func(t *testing.T, s *harness.Server, c *http.Client, size int) {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Jar = jar

		t.Run("the admin lets its user in and keeps others out", func(t *testing.T) {
			token := csrf(t, c, s.URL+"/admin/login/")
			res, body := post(t, c, s.URL+"/admin/login/?next=/admin/", url.Values{
				"csrfmiddlewaretoken": {token}, "username": {"admin"}, "password": {"wrong"}})
			want(t, res, body, 200, "Please enter the correct username and password")
			res, body = post(t, c, s.URL+"/admin/login/?next=/admin/", url.Values{
				"csrfmiddlewaretoken": {token}, "username": {"admin"}, "password": {"ford-2026"}})
			want(t, res, body, 302, "")
			res, body = get(t, c, s.URL+"/admin/")
			want(t, res, body, 200, "Site administration")
			res, body = post(t, c, s.URL+"/admin/login/", url.Values{"username": {"admin"}})
			want(t, res, body, 403, "CSRF")
		})
		t.Run("the admin adds, lists and deletes an object", func(t *testing.T) {
			add := s.URL + "/admin/guestbook/entry/add/"
			res, body := post(t, c, add, url.Values{
				"csrfmiddlewaretoken": {csrf(t, c, add)}, "name": {"Zoë"}, "text": {"from the admin"}})
			want(t, res, body, 302, "")
			res, body = get(t, c, s.URL+"/admin/guestbook/entry/?q=admin")
			want(t, res, body, 200, "Zoë")
			remove := s.URL + "/admin/guestbook/entry/1/delete/"
			res, body = post(t, c, remove, url.Values{"csrfmiddlewaretoken": {csrf(t, c, remove)}, "post": {"yes"}})
			want(t, res, body, 302, "")
		})
		t.Run("a form with a file is stored and given back", func(t *testing.T) { attach(t, s, c) })
		t.Run("a bad form is shown again", func(t *testing.T) {
			res, body := post(t, c, s.URL+"/", url.Values{"csrfmiddlewaretoken": {csrf(t, c, s.URL+"/")}, "name": {""}})
			want(t, res, body, 400, "This field is required")
		})
		t.Run("an export streams", func(t *testing.T) {
			res, body := get(t, c, s.URL+"/export.csv")
			want(t, res, body, 200, "id,name,length\r\n")
			want(t, res, body, 200, "Ada")
		})
		t.Run("a large file is uploaded", func(t *testing.T) { upload(t, s, c, size) })
	})
}

func attach(t *testing.T, s *harness.Server, c *http.Client) {
	t.Helper()
	payload := noise(2 << 20)
	var form bytes.Buffer
	m := multipart.NewWriter(&form)
	for name, value := range map[string]string{"csrfmiddlewaretoken": csrf(t, c, s.URL+"/"), "name": "Ada", "text": "with a file"} {
		_ = m.WriteField(name, value) // into memory
	}
	part, err := m.CreateFormFile("attachment", "noise.bin")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(payload)
	_ = m.Close()
	res, body := do(t, c, request(t, "POST", s.URL+"/", &form, "Content-Type", m.FormDataContentType(), "Referer", s.URL+"/"))
	want(t, res, body, 302, "")
	_, body = get(t, c, s.URL+"/")
	link := regexp.MustCompile(`/attachment/\d+`).FindString(body)
	if link == "" {
		t.Fatalf("no attachment in %.500s", body)
	}
	res, body = get(t, c, s.URL+link)
	if res.StatusCode != 200 || sum([]byte(body)) != sum(payload) || !strings.Contains(res.Header.Get("Content-Disposition"), "noise") {
		t.Errorf("download: %d, %d bytes, %q", res.StatusCode, len(body), res.Header.Get("Content-Disposition"))
	}
}

// upload sends size bytes of a multipart form without holding them in memory. The
// length is declared: Django's parser takes a form without one for empty.
func upload(t *testing.T, s *harness.Server, c *http.Client, size int) {
	t.Helper()
	var around bytes.Buffer
	m := multipart.NewWriter(&around)
	if _, err := m.CreateFormFile("file", "large.bin"); err != nil {
		t.Fatal(err)
	}
	head := around.String()
	around.Reset()
	_ = m.Close() // into memory
	tail := around.String()

	sums := sha256.New()
	block := noise(1 << 20)
	blocks := make([]io.Reader, 0, size>>20)
	for range size >> 20 {
		blocks = append(blocks, bytes.NewReader(block))
	}
	payload := io.TeeReader(io.MultiReader(blocks...), sums)
	r := request(t, "POST", s.URL+"/digest", io.MultiReader(strings.NewReader(head), payload, strings.NewReader(tail)),
		"Content-Type", m.FormDataContentType())
	r.ContentLength = int64(len(head) + size + len(tail))
	res, body := do(t, c, r)
	want(t, res, body, 200, hex.EncodeToString(sums.Sum(nil)))
}
