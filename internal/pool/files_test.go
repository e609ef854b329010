package pool_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

// manyFiles answers /files with a hundred files of a MiB, as its client takes them, and
// counts those that were sent.
func manyFiles(t *testing.T, sent *atomic.Int32, end chan<- error) func(*worker, *linktest.Request) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(w *worker, q *linktest.Request) {
		if q.Path != "/files" {
			w.reply(q, 200, "served")
			return
		}
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = f.Close() }() // only read
		err = q.Head(200, 100<<20)
		for i := range 100 {
			if err != nil {
				break
			}
			flags := link.Flags(0)
			if i == 99 {
				flags = link.End
			}
			if err = q.File(f, 0, 1<<20, flags); err == nil {
				sent.Add(1)
			}
		}
		if errors.Is(err, linktest.ErrCancelled) {
			w.abort(q, link.AbortCancelled, "")
		}
		end <- err
	}
}

func TestManyFilesReachASlowClient(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Concurrency: 2}, pool.AppOptions{Name: "app"})
		var sent atomic.Int32
		end := make(chan error, 1)
		r.attach(transport, "asgi", 0, manyFiles(t, &sent, end))
		_, in := r.dial("GET /files HTTP/1.1\r\nHost: x\r\n\r\n")
		eventually(t, "the credit is used up", func() bool { return sent.Load() >= 16 })
		// The client has not read a byte: all of them cannot be under way.
		if n := sent.Load(); n == 100 {
			t.Errorf("%d files were sent to a client that has read nothing", n)
		}
		if got := r.do(client(), "GET", "/", ""); got.body != "served" {
			t.Errorf("beside it: %+v", got)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n != 100<<20 {
			t.Errorf("%d bytes came, %v", n, err)
		}
		if err := receive(t, "the end of the application", end); err != nil {
			t.Errorf("the application was told %v", err)
		}
	})
}

func TestManyFilesForAClientThatNeverReadsEndWithItsTime(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRigBehind(t, edge.Options{Limits: lane.Limits{WriteIdle: 200 * time.Millisecond}}, pool.Options{Concurrency: 2}, pool.AppOptions{Name: "app"})
		var sent atomic.Int32
		end := make(chan error, 1)
		w := r.attach(transport, "asgi", 0, manyFiles(t, &sent, end))
		r.dial("GET /files HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := receive(t, "the end of the application", end); !errors.Is(err, linktest.ErrCancelled) {
			t.Errorf("the application was told %v after %d files", err, sent.Load())
		}
		if got := r.do(client(), "GET", "/", ""); got.body != "served" || w.link.Err() != nil {
			t.Errorf("afterwards: %+v, %v", got, w.link.Err())
		}
	})
}
