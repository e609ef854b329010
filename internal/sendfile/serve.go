package sendfile

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"

	"github.com/guado-server/guado/internal/exchange"
)

// answer is an Answer that keeps what an application says beside an order to itself.
type answer struct {
	exchange.Around
	order   *order
	aborted error
}

// Serve calls the application, and then sends the file that it has named, if it has.
func (h *Handler) Serve(x *exchange.Exchange) {
	order, aborted := h.call(x)
	if order == nil {
		return
	}
	if aborted != nil {
		refuse(x, aborted)
		return
	}
	h.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.send(w, r, x, order) })).Serve(x)
}

var key exchange.Key // of *answer

// call lends x another Answer for as long as the application works.
func (h *Handler) call(x *exchange.Exchange) (order *order, aborted error) {
	a, _ := x.Kept(&key).(*answer)
	if a == nil {
		a = &answer{}
	}
	a.Answer = x.Answer
	x.Answer = a
	defer func() { // also after a panic
		x.Answer = a.Answer
		order, aborted = a.order, a.aborted
		*a = answer{}
		x.Keep(&key, a)
	}()
	h.next.Serve(x)
	return nil, nil // what it is, the deferred function says
}

// refuse answers for an application that failed behind its head, none of which has left.
func refuse(x *exchange.Exchange, err error) {
	var p *exchange.Problem
	if errors.As(err, &p) && !errors.Is(err, exchange.ErrClientGone) {
		x.Fail(p)
		return
	}
	x.Answer.Abort(err)
}

// Head takes an order, or passes.
func (a *answer) Head(h exchange.Head) error {
	if a.order == nil {
		if a.order = orderOf(&h); a.order == nil {
			return a.Answer.Head(h)
		}
	}
	return nil
}

// Begun is true for the steps behind as soon as they have given a head.
func (a *answer) Begun() bool { return a.order != nil || a.Answer.Begun() }

// Write and the rest drop what comes beside an order.
func (a *answer) Write(p []byte) (int, error) {
	if a.order != nil {
		return len(p), nil
	}
	return a.Answer.Write(p)
}

// File see Write.
func (a *answer) File(f exchange.File, offset, count int64) error {
	if a.order != nil {
		return nil
	}
	return a.Answer.File(f, offset, count)
}

// Trailers see Write.
func (a *answer) Trailers(fields []exchange.Field) error {
	if a.order != nil {
		return nil
	}
	return a.Answer.Trailers(fields)
}

// Flush see Write.
func (a *answer) Flush() error {
	if a.order != nil {
		return nil
	}
	return a.Answer.Flush()
}

// Abort is kept: nothing has left yet that would have to be cut.
func (a *answer) Abort(err error) {
	if a.order == nil {
		a.Answer.Abort(err)
		return
	}
	if a.aborted == nil {
		a.aborted = err
	}
}

// send sends the file.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, x *exchange.Exchange, o *order) {
	f, err := h.open(o)
	if err != nil {
		h.log.Error("the file that the application named cannot be sent", "request_id", x.ID, "app", x.App, o.field, o.file, "error", err)
		p := &exchange.Problem{Status: 404, Code: "file_not_found", Err: err}
		if errors.Is(err, fs.ErrPermission) {
			p = &exchange.Problem{Status: 403, Code: "forbidden", Err: err}
		}
		x.Fail(p)
		return
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	if r.Method != http.MethodHead {
		r.Method = http.MethodGet // what was posted, the application has taken
	}
	for _, kept := range o.kept {
		w.Header().Add(string(kept.Name), string(kept.Value))
	}
	if p := h.sendFile(w, r, f.name, f.info, f.File); p != nil {
		x.Fail(p)
	}
}

// file is an open regular file.
type file struct {
	*os.File
	name string
	info fs.FileInfo
}

func (h *Handler) open(o *order) (*file, error) {
	root, name, err := h.find(o)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a named pipe would hold the request until somebody writes to it.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is no regular file")
	}
	if err != nil {
		_ = f.Close() // the first error is the one to tell
		return nil, err
	}
	return &file{f, name, info}, nil
}
