package adopt_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/adopt"
)

const secureShop = "server { listen 443 ssl; server_name shop.example; ssl_certificate c.pem; ssl_certificate_key k.pem;" +
	" location / { proxy_pass http://127.0.0.1:8000; proxy_set_header Host $host; } LOCATIONS }\n"

// moves are configurations with redirects: the result has and lacks a text.
var moves = []struct{ name, conf, has, lacks string }{
	{
		"the name of the site, over https", "server { listen 80; server_name shop.example; return 301 https://shop.example$request_uri; }\n" + secureShop,
		"https_redirect = true", "\nredirect = ",
	},
	{
		"whatever name", "server { listen 80 default_server; server_name _; return 301 https://shop.example$request_uri; }\n" + secureShop,
		`canonical_host = "shop.example"`, "\nredirect = ",
	},
	{
		"by a location", "server { listen 80; server_name shop.example; location / { return 308 https://shop.example$request_uri; } }\n" + secureShop,
		"https_redirect = true", "\nredirect = ",
	},
	{
		"by a rewrite", "server { listen 80; server_name shop.example; rewrite ^/(.*)$ https://shop.example/$1 permanent; }\n" + secureShop,
		"https_redirect = true", "\nredirect = ",
	},
	{
		"to another port", "server { listen 80; return 301 https://$host:8443$request_uri; }\n" + strings.Replace(secureShop, "443", "8443", 1),
		"https_port = 8443", "\nredirect = ",
	},
	{
		"one of two sites",
		"server { listen 443 ssl; server_name www.shop.example; return 301 $scheme://shop.example$request_uri; }\n" + secureShop +
			strings.ReplaceAll(secureShop, "shop", "wiki"),
		`host = "www.shop.example"` + "\n" + `redirect = "https://shop.example"`, "canonical_host",
	},
	{
		"http alone", "server { listen 80; server_name www.a.example; return 301 http://a.example$request_uri; }\n" +
			"server { listen 80; server_name a.example; location / { proxy_pass http://127.0.0.1:8000; } }",
		`redirect = "http://a.example"`, "canonical_host",
	},
	{
		"https that another machine speaks", "server { listen 80; server_name a.example; return 301 https://a.example$request_uri; }\n" +
			"server { listen 80; server_name b.example; location / { proxy_pass http://127.0.0.1:8000; } }",
		`redirect = "https://a.example"`, "https_redirect",
	},
	{"to itself", strings.Replace(secureShop, "LOCATIONS", "location = /app { return 301 /app/; }", 1), "would lead to itself", `path = "/app"`},
	{
		"to itself by name", strings.Replace(secureShop, "LOCATIONS", "location /app { return 301 https://shop.example/app/start; }", 1),
		"would lead to itself", `path = "/app"`,
	},
	{
		"elsewhere under the same path", strings.Replace(secureShop, "LOCATIONS", "location /blog { return 301 https://blog.example/blog/; }", 1),
		`redirect = "https://blog.example/blog/"`, "lead to itself",
	},
	{
		"the whole path of a location", strings.Replace(secureShop, "LOCATIONS", "location /blog { return 301 https://blog.example$request_uri; }", 1),
		`redirect = "https://blog.example/blog"` + "\ncode = 301\nkeep_path = true", "not carried over",
	},
	{
		"a rewrite in a location", strings.Replace(secureShop, "LOCATIONS", "location /old { rewrite ^ /new? redirect; }", 1),
		`redirect = "/new"` + "\ncode = 302", "keep_path",
	},
	{
		"a rewrite of more than its location", strings.Replace(secureShop, "LOCATIONS", "location /old/shop { rewrite ^/old/(.*)$ /new/$1 permanent; }", 1),
		`redirect = "/new/shop"` + "\ncode = 301\nkeep_path = true", `path = "/old"`,
	},
	{
		"a rewrite that never comes to it", strings.Replace(secureShop, "LOCATIONS", "location /a { rewrite ^/b/(.*)$ /c/$1 permanent; }", 1),
		"not carried over", "\nredirect = ",
	},
	{
		"a pattern that is no prefix", strings.Replace(secureShop, "LOCATIONS", `location /old { rewrite ^/old/(\d+)$ /new?id=$1 permanent; }`, 1),
		"not carried over", `path = "/old"`,
	},
	{
		"a prefix taken off on the way", strings.Replace(secureShop, "LOCATIONS", "location /api/ { rewrite ^/api/(.*)$ /$1 break; proxy_pass http://127.0.0.1:9; }", 1),
		`prefix = "strip"`, "not carried over",
	},
}

func TestRedirectsGoWhereNginxSentThem(t *testing.T) {
	for _, c := range moves {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, "nginx.conf"), strings.ReplaceAll(c.conf, "LOCATIONS", ""))
			result, err := adopt.Adopt(t.Context(), adopt.Options{Nginx: "nginx.conf", Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSpace(result.Text)
			if !strings.Contains(plain(text), c.has) || strings.Contains(text, c.lacks) {
				t.Errorf("it should have %q, and no %q:\n%s", c.has, c.lacks, text)
			}
		})
	}
}

// plain is the text without where its keys come from.
func plain(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "#") {
			lines[i] = strings.TrimSpace(columns.Split(line, 2)[0])
		}
	}
	return strings.Join(lines, "\n")
}
