// Package static serves a folder: ranges, conditional requests, precompressed
// siblings, try-files and a single-page fallback.
// Before it: route, through the net/http adapter. After it: nothing.
// Not here: directory listings (never), compression on the fly (edge/compress).
package static

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one static mount.
type Options struct {
	Dir           string   // folder to serve; must exist
	Index         []string // tried for a folder; default index.html
	TryFiles      []string // tried in order for a missing file; "{path}" is the request's path: "{path}.html", "/404.html"
	SPA           string   // served with 200 for paths without an extension that match no file: "index.html"
	Precompressed bool     // serve file.zst, file.br or file.gz beside the file when the client accepts it
	CacheControl  string   // Cache-Control of files; empty: none
	// Exchange finds the exchange of a request; the net/http adapter provides it.
	Exchange func(*http.Request) *exchange.Exchange
	Hidden   bool // serve names that start with a dot (never by default; .well-known always)
}

// Handler serves one folder. It holds the folder open, so that neither ".." nor a
// symbolic link can leave it (os.Root), and a renamed folder stays the same one.
type Handler struct {
	root *os.Root
	opts Options
}

// New opens the folder.
func New(o Options) (*Handler, error) {
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("static folder %q: %w", o.Dir, err)
	}
	if len(o.Index) == 0 {
		o.Index = []string{"index.html"}
	}
	return &Handler{root: root, opts: o}, nil
}

// Close gives the folder back.
func (h *Handler) Close() error { return h.root.Close() }

// ServeHTTP serves r.URL.Path, relative to the folder.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.problem(w, r, &exchange.Problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Fields: []exchange.Field{{Name: []byte("Allow"), Value: []byte("GET, HEAD")}}})
		return
	}
	name, ok := h.clean(r.URL.Path)
	if !ok {
		h.refuse(w, r, fs.ErrNotExist)
		return
	}
	info, err := h.root.Stat(name)
	if err == nil && info.IsDir() {
		if !strings.HasSuffix(r.URL.Path, "/") {
			redirectToFolder(w, r)
			return
		}
		name, info, err = h.index(name)
	} else if err == nil && strings.HasSuffix(r.URL.Path, "/") {
		err = fs.ErrNotExist // "/file.txt/" names no file
	}
	if err != nil {
		name, info, err = h.fallback(r, err)
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.file(w, r, name, info)
}

// clean turns the path of a URL into a name inside the folder; false for what is
// never served.
func (h *Handler) clean(p string) (string, bool) {
	if strings.ContainsAny(p, "\x00\\") {
		return "", false
	}
	name := strings.TrimPrefix(path.Clean("/"+p), "/")
	if name == "" {
		return ".", true
	}
	if !h.opts.Hidden {
		for part := range strings.SplitSeq(name, "/") {
			if strings.HasPrefix(part, ".") && part != ".well-known" {
				return "", false
			}
		}
	}
	return name, true
}

func (h *Handler) index(dir string) (string, fs.FileInfo, error) {
	for _, index := range h.opts.Index {
		name := path.Join(dir, index)
		if info, err := h.root.Stat(name); err == nil && info.Mode().IsRegular() {
			return name, info, nil
		}
	}
	return "", nil, fs.ErrNotExist
}

func (h *Handler) fallback(r *http.Request, cause error) (string, fs.FileInfo, error) {
	if !errors.Is(cause, fs.ErrNotExist) {
		return "", nil, cause
	}
	tries := h.opts.TryFiles
	if h.opts.SPA != "" && path.Ext(r.URL.Path) == "" {
		tries = append(tries[:len(tries):len(tries)], "/"+h.opts.SPA)
	}
	for _, try := range tries {
		name, ok := h.clean(strings.ReplaceAll(try, "{path}", strings.TrimSuffix(r.URL.Path, "/")))
		if !ok {
			continue
		}
		if info, err := h.root.Stat(name); err == nil && info.Mode().IsRegular() {
			return name, info, nil
		}
	}
	return "", nil, cause
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, fs.ErrPermission) {
		h.problem(w, r, &exchange.Problem{Status: http.StatusForbidden, Code: "forbidden", Err: err})
		return
	}
	// Also for a link that leaves the folder: its existence is nobody's business.
	h.problem(w, r, &exchange.Problem{Status: http.StatusNotFound, Code: "not_found", Err: err})
}

// problem answers with the host's error page. Fields that were set for a file are not
// sent with it.
func (h *Handler) problem(w http.ResponseWriter, r *http.Request, p *exchange.Problem) {
	if x := h.opts.Exchange(r); x != nil {
		x.Fail(p)
		return
	}
	// r is not of the road: nobody has a page for it.
	for _, f := range p.Fields {
		w.Header().Set(string(f.Name), string(f.Value))
	}
	http.Error(w, http.StatusText(p.Status), p.Status)
}

// encodings that may lie beside a file, best first.
var encodings = []struct{ token, suffix string }{{"zstd", ".zst"}, {"br", ".br"}, {"gzip", ".gz"}}

func (h *Handler) file(w http.ResponseWriter, r *http.Request, name string, info fs.FileInfo) {
	header := w.Header()
	served, encoding := name, ""
	if h.opts.Precompressed {
		header.Add("Vary", "Accept-Encoding")
		if s, e := h.precompressed(r, name, info); e != "" {
			served, encoding = s, e
		}
	}
	f, err := h.root.Open(served)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		h.refuse(w, r, errors.Join(fs.ErrNotExist, err))
		return
	}
	if encoding != "" {
		header.Set("Content-Type", cmp.Or(mime.TypeByExtension(path.Ext(name)), "application/octet-stream")) // sniffing would see compressed bytes
		header.Set("Content-Encoding", encoding)
		header.Set("ETag", etag(info, encoding))
	}
	if h.opts.CacheControl != "" {
		header.Set("Cache-Control", h.opts.CacheControl)
	}
	if p := Send(w, r, name, info, f); p != nil {
		h.problem(w, r, p)
	}
}

// precompressed gives the name and coding of the best sibling; empty when there is none.
func (h *Handler) precompressed(r *http.Request, name string, plain fs.FileInfo) (sibling, coding string) {
	accept := r.Header.Get("Accept-Encoding")
	for _, e := range encodings {
		if !accepts(accept, e.token) {
			continue
		}
		// An older sibling is a left-over of an earlier build: serving it would undo a deploy.
		info, err := h.root.Stat(name + e.suffix)
		if err == nil && info.Mode().IsRegular() && !info.ModTime().Before(plain.ModTime()) {
			return name + e.suffix, e.token
		}
	}
	return "", ""
}

// accepts reads one coding of Accept-Encoding (RFC 9110, 12.5.3).
func accepts(header, token string) bool {
	any := false
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		coding = strings.TrimSpace(coding)
		q := 1.0
		if v, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				q = 0
			}
		}
		if strings.EqualFold(coding, token) {
			return q > 0
		}
		if coding == "*" {
			any = q > 0
		}
	}
	return any
}

// etag is strong: time in nanoseconds and size name the bytes of one build, and the
// encoding keeps representations apart.
func etag(info fs.FileInfo, encoding string) string {
	tag := `"` + strconv.FormatInt(info.ModTime().UnixNano(), 36) + "-" + strconv.FormatInt(info.Size(), 36)
	if encoding != "" {
		tag += "-" + encoding
	}
	return tag + `"`
}

// redirectToFolder adds the slash by a relative reference, so that the mount's
// prefix, which this handler does not know, stays right.
func redirectToFolder(w http.ResponseWriter, r *http.Request) {
	// Escaped, or "x?y" would become a query; behind "./" no colon makes a scheme.
	target := "./" + url.PathEscape(path.Base(r.URL.Path)) + "/"
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusMovedPermanently)
}
