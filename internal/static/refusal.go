package static

import (
	"io"
	"net/http"

	"github.com/guado-server/guado/internal/exchange"
)

// judged keeps back the refusals that http.ServeContent would write, so that they are
// the host's pages with a code and the request id, as all others.
type judged struct {
	http.ResponseWriter
	refused int  // its status; 0: none
	whole   bool // no ranges are offered, though http.ServeContent always does
}

func (j *judged) WriteHeader(status int) {
	if status == http.StatusPreconditionFailed || status == http.StatusRequestedRangeNotSatisfiable {
		j.refused = status
		return
	}
	if j.whole {
		j.Header().Set("Accept-Ranges", "none")
	}
	j.ResponseWriter.WriteHeader(status)
}

func (j *judged) Write(p []byte) (int, error) {
	if j.refused != 0 {
		return len(p), nil // net/http's own words for it
	}
	return j.ResponseWriter.Write(p)
}

// ReadFrom lets the writer below send the file by the kernel.
func (j *judged) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(j.ResponseWriter, src)
}

// problem is the answer that was kept back; nil when there was none.
func (j *judged) problem() *exchange.Problem {
	switch j.refused {
	case http.StatusPreconditionFailed:
		return &exchange.Problem{Status: 412, Code: "precondition_failed"}
	case http.StatusRequestedRangeNotSatisfiable:
		p := &exchange.Problem{Status: 416, Code: "range_not_satisfiable"}
		if length := j.Header().Get("Content-Range"); length != "" {
			p.Fields = []exchange.Field{{Name: []byte("Content-Range"), Value: []byte(length)}}
		}
		return p
	}
	return nil
}
