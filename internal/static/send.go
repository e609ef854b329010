package static

import (
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Send answers r with an open regular file, whatever folder it is from: ranges and
// conditions are looked to. Content-Type and ETag that w has already stay, and so does an
// Accept-Ranges of none. Nothing was sent when it returns a problem, which is for the
// caller to answer.
func Send(w http.ResponseWriter, r *http.Request, name string, info fs.FileInfo, f *os.File) *exchange.Problem {
	header := w.Header()
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" && header.Get("Content-Type") == "" {
		header.Set("Content-Type", kind)
	}
	if header.Get("ETag") == "" {
		header.Set("ETag", etag(info, ""))
	}
	answer := &judged{ResponseWriter: w, whole: strings.EqualFold(header.Get("Accept-Ranges"), "none")}
	if answer.whole {
		r.Header.Del("Range")
	}
	http.ServeContent(answer, r, name, info.ModTime(), f)
	return answer.problem()
}
