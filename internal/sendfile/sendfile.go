// Package sendfile answers with a file that the application names (X-Accel-Redirect as
// nginx knows it, X-Sendfile as Apache does) instead of sending its bytes.
// Before it: route. After it: the application; then, through the net/http adapter, the file.
// Not here: files that clients ask for (static). Where this step is not, the lanes drop
// the two fields.
package sendfile

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one mount.
type Options struct {
	Folders map[string]string // prefix of X-Accel-Redirect, "/protected" → folder
	// Wrap makes a step of an http.Handler: the net/http adapter does.
	Wrap func(http.Handler) exchange.Handler
	// Send answers with an open file, or says why not: a static folder does.
	Send func(http.ResponseWriter, *http.Request, string, fs.FileInfo, *os.File) *exchange.Problem
	Log  *slog.Logger
}

// Handler is the step. It holds its folders open, so that no name and no symbolic link
// leads out of them (os.Root).
type Handler struct {
	next     exchange.Handler
	wrap     func(http.Handler) exchange.Handler
	sendFile func(http.ResponseWriter, *http.Request, string, fs.FileInfo, *os.File) *exchange.Problem
	log      *slog.Logger
	folders  []folder // longest prefix first
}

type folder struct {
	prefix string    // without the slash at its end
	dirs   [2]string // as it was declared, and what that leads to
	root   *os.Root
}

// New opens the folders and puts the step in front of next.
func New(next exchange.Handler, o Options) (*Handler, error) {
	h := &Handler{next: next, wrap: o.Wrap, sendFile: o.Send, log: o.Log}
	for prefix, dir := range o.Folders {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("folder %q of %q: %w", dir, prefix, closing(h, err))
		}
		h.folders = append(h.folders, folder{prefix: strings.TrimRight(prefix, "/"), root: root})
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return nil, fmt.Errorf("folder %q of %q: %w", dir, prefix, closing(h, err))
		}
		h.folders[len(h.folders)-1].dirs = [2]string{filepath.Clean(dir), real}
	}
	slices.SortFunc(h.folders, func(a, b folder) int {
		return cmp.Or(cmp.Compare(len(b.prefix), len(a.prefix)), cmp.Compare(a.prefix, b.prefix))
	})
	return h, nil
}

// closing gives back what a New that fails has opened; the first error is the one to tell.
func closing(h *Handler, err error) error {
	_ = h.Close()
	return err
}

// Close gives the folders back.
func (h *Handler) Close() error {
	var first error
	for _, f := range h.folders {
		if err := f.root.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// order is what an application asks for: a file, with some fields of its own answer.
type order struct {
	field string // which one asked
	file  string // its value
	kept  []exchange.Field
}

// keptFields are those that nginx takes over from the application's answer; all others
// speak of a body that is not sent.
var keptFields = []string{"content-type", "set-cookie", "content-disposition", "cache-control", "expires", "accept-ranges"}

// orderOf looks for the two fields in a head; nil when it has neither. The fields belong
// to the step behind until it calls again: they are copied.
func orderOf(h *exchange.Head) *order {
	var o *order
	for i := range h.Fields {
		f := &h.Fields[i]
		if n := len(f.Name); n != len(accelRedirect) && n != len(xSendfile) {
			continue
		}
		redirect := f.Is(accelRedirect)
		if !redirect && !f.Is(xSendfile) {
			continue
		}
		if o == nil || redirect {
			o = &order{field: xSendfile, file: string(f.Value)}
		}
		if redirect {
			o.field = accelRedirect
		}
	}
	if o == nil {
		return nil
	}
	for _, f := range h.Fields {
		if slices.ContainsFunc(keptFields, f.Is) {
			o.kept = append(o.kept, exchange.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)})
		}
	}
	return o
}

const (
	accelRedirect = "X-Accel-Redirect"
	xSendfile     = "X-Sendfile"
)

// find gives the folder and the name inside it that an order means.
func (h *Handler) find(o *order) (*os.Root, string, error) {
	if strings.ContainsRune(o.file, 0) {
		return nil, "", fmt.Errorf("%s has a NUL", o.field)
	}
	if o.field == xSendfile {
		return h.findPath(o.file)
	}
	target, _, _ := strings.Cut(o.file, "?")
	target, err := url.PathUnescape(target)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("its escapes are malformed: %w", err)
	case strings.ContainsRune(target, 0):
		return nil, "", fmt.Errorf("it has a NUL")
	case climbs(target):
		return nil, "", errClimbs
	}
	for i := range h.folders {
		if rest, ok := below(target, h.folders[i].prefix); ok {
			return h.folders[i].root, rest, nil
		}
	}
	return nil, "", fmt.Errorf("no folder is declared for it in the sendfile of its mount")
}

var errClimbs = fmt.Errorf("it has a segment \"..\"")

// findPath looks for the path of a file among the folders, by the name that was declared
// and by the one it stands for.
func (h *Handler) findPath(file string) (*os.Root, string, error) {
	switch {
	case !path.IsAbs(file):
		return nil, "", fmt.Errorf("it is no absolute path")
	case climbs(file):
		return nil, "", errClimbs
	}
	for i := range h.folders {
		for _, dir := range h.folders[i].dirs {
			if rest, ok := below(file, strings.TrimRight(dir, "/")); ok {
				return h.folders[i].root, rest, nil
			}
		}
	}
	return nil, "", fmt.Errorf("it lies in no folder that the sendfile of its mount declares")
}

func climbs(p string) bool { return slices.Contains(strings.Split(p, "/"), "..") }

// below takes a prefix off on a segment boundary.
func below(p, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(p, prefix)
	if !ok || !strings.HasPrefix(rest, "/") {
		return "", false
	}
	rest = strings.TrimPrefix(path.Clean(rest), "/")
	return rest, rest != "" && !strings.HasSuffix(p, "/")
}
