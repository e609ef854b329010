package gate

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// flagFile is a file whose being there closes the gate.
type flagFile struct {
	path   string
	looked atomic.Int64 // Unix ns
	there  atomic.Bool
}

// lookEvery bounds how often the file is looked for; nobody looks while nobody asks.
const lookEvery = time.Second

// up reports whether the file is there, as of at most a second ago. One that cannot be
// looked for is not there.
func (f *flagFile) up(now time.Time) bool {
	if f == nil {
		return false
	}
	last := f.looked.Load()
	if since := now.UnixNano() - last; (since >= int64(lookEvery) || since < 0) && f.looked.CompareAndSwap(last, now.UnixNano()) {
		_, err := os.Stat(f.path)
		f.there.Store(err == nil)
	}
	return f.there.Load()
}

// showPage answers with the page that was given to browsers, and with the usual error
// page to everybody else. The file is read each time: an operator who changes it while
// it is shown sees the change.
func (r *road) showPage(x *exchange.Exchange) {
	p := &exchange.Problem{Status: 503, Code: "maintenance", RetryAfter: r.opts.RetryAfter}
	if r.opts.Page == "" || !wantsHTML(x) {
		x.Fail(p)
		return
	}
	page, err := os.ReadFile(r.opts.Page)
	if err != nil {
		r.opts.Log.Error("the maintenance page cannot be read; the usual one is shown", "file", r.opts.Page, "error", err)
		x.Fail(p)
		return
	}
	x.Problem = p
	head := exchange.Head{Status: p.Status, Length: int64(len(page)), Fields: []exchange.Field{
		{Name: []byte("Content-Type"), Value: []byte("text/html; charset=utf-8")},
		{Name: []byte("Cache-Control"), Value: []byte("no-store")},
		{Name: []byte("X-Request-ID"), Value: []byte(x.ID)},
	}}
	if p.RetryAfter > 0 {
		head.Fields = append(head.Fields, exchange.Field{Name: []byte("Retry-After"), Value: strconv.AppendInt(nil, int64(p.RetryAfter), 10)})
	}
	if err := x.Answer.Head(head); err != nil {
		x.Answer.Abort(err)
		return
	}
	_, _ = x.Answer.Write(page) // an error is sticky, and the lane finds it at the end
}

// wantsHTML reports whether the client names HTML before anything else that an error page
// could be.
func wantsHTML(x *exchange.Exchange) bool {
	accept := bytes.ToLower(x.Field("accept"))
	at := bytes.Index(accept, []byte("text/html"))
	other := bytes.Index(accept, []byte("json"))
	return at >= 0 && (other < 0 || at < other)
}
