package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The site of the test: http goes to https, www to the name without it, some files are
// nginx's, others the application names, and the rest is the application's.
const (
	siteNginx = `
upstream shop { server 127.0.0.1:8888 fail_timeout=0; }
server {
    listen 127.0.0.1:0;
    server_name shop.example.org;
    return 301 https://shop.example.org$request_uri;
}
server {
    listen 127.0.0.1:0 ssl;
    server_name www.shop.example.org;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    return 301 https://shop.example.org$request_uri;
}
server {
    listen 127.0.0.1:0 ssl;
    server_name shop.example.org;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    location = /favicon.ico { alias DIR/static/favicon.ico; }
    location /static/ { alias DIR/static/; }
    location /protected/ { internal; alias DIR/private/; }
    location /old/ { rewrite ^/old/(.*)$ /new/$1 permanent; }
    location /upload { proxy_pass http://shop; proxy_set_header Host $host; client_max_body_size 2m; }
    location / {
        try_files $uri @shop;
    }
    location @shop { proxy_pass http://shop; proxy_set_header Host $host; proxy_read_timeout 75s; }
}
`
	siteGunicorn = `
bind = "127.0.0.1:8888"
wsgi_app = "site_app"
raw_env = ["SHOP_PASSWORD=secret"]
graceful_timeout = 5
`
	siteApp = `
import os


def application(environ, start_response):
    headers = [("Content-Type", "text/plain")]
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    if path.endswith("/bill"):
        headers.append(("X-Accel-Redirect", "/protected/bill.txt"))
    start_response("200 OK", headers)
    return [(environ["wsgi.url_scheme"] + " " + path + " " + os.environ["SHOP_PASSWORD"]).encode()]
`
)

func TestAnAdoptedSiteAnswersAsItDidBehindNginx(t *testing.T) {
	dir := project(t, map[string]string{
		"gunicorn.py": siteGunicorn, "site_app.py": siteApp, "static/favicon.ico": "icon", "static/secret.txt": "beside it", "private/bill.txt": "bill",
	})
	write(t, filepath.Join(dir, "nginx.conf"), strings.ReplaceAll(siteNginx, "DIR", dir))
	putCertificate(t, dir)

	r := run(t, dir, "adopt", "--nginx", "nginx.conf", "--gunicorn", "gunicorn.py", "--output", "guado.toml")
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	if info, err := os.Stat(filepath.Join(dir, "guado.toml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file with passwords has mode %v (%v)", info.Mode(), err)
	}
	if c := run(t, dir, "check", "--load"); c.code != 0 {
		t.Fatalf("guado check: %s", c.err)
	}
	s := start(t, program(t, dir, "serve"))
	plain := s.wait(`serves .*?http://(127\.0\.0\.1:\d+)`)[1]
	secure := s.wait(`serves .*?https://(127\.0\.0\.1:\d+)`)[1]

	const shop = "shop.example.org"
	for _, c := range []struct {
		address, host, path string
		status              int
		says                string // the body, or Location
	}{
		{plain, shop, "/a?b=c", 308, "https://shop.example.org/a?b=c"},
		{secure, shop, "/a?b=c", 200, "https /a secret"},
		{secure, "www." + shop, "/a?b=c", 308, "https://shop.example.org/a?b=c"},
		{plain, "www." + shop, "/a", 308, "https://shop.example.org/a"},
		{secure, shop, "/favicon.ico", 200, "icon"},
		{secure, shop, "/favicon.ico/%2e%2e/secret.txt", 400, ""},
		{secure, shop, "/static/favicon.ico", 200, "icon"},
		{secure, shop, "/old/page", 301, "/new/page"},
		{secure, shop, "/bill", 200, "bill"},
		{secure, shop, "/upload/bill", 200, "bill"},
		{secure, shop, "/upload/x", 200, "https /upload/x secret"},
		{secure, shop, "/protected/bill.txt", 200, "https /protected/bill.txt secret"}, // nginx: 404; nothing of the folder either way
	} {
		status, says := askAs(t, c.address, c.address == secure, c.host, c.path)
		if status != c.status || c.says != "" && says != c.says || strings.Contains(says, "beside it") {
			t.Errorf("%s http%s %s: %d %q, want %d %q", c.host, map[bool]string{true: "s"}[c.address == secure], c.path, status, says, c.status, c.says)
		}
	}
}

// askAs requests a path as a name, and gives the status with the body, or with Location.
func askAs(t *testing.T, address string, secure bool, host, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, map[bool]string{true: "https://", false: "http://"}[secure]+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // a certificate of the test's own
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if to := res.Header.Get("Location"); to != "" {
		return res.StatusCode, to
	}
	return res.StatusCode, string(body)
}

func putCertificate(t *testing.T, dir string) {
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
	write(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}
