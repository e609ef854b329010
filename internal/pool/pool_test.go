package pool_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
)

func hello(w *worker, q *linktest.Request) {
	w.reply(q, 200, "hello "+q.Path, linktest.Field{Name: "content-type", Value: "text/plain"})
}

func echo(w *worker, q *linktest.Request) {
	b, err := io.ReadAll(q)
	if err != nil {
		return // the test sees that no answer comes
	}
	w.reply(q, 200, string(b))
}

func TestARequestIsAnsweredByAWorker(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Spool: true})
		r.attach(transport, "wsgi", 1, hello)
		c := client()
		for range 3 {
			got := r.do(c, "GET", "/x", "")
			if got.err != nil || got.status != 200 || got.body != "hello /x" || got.header.Get("Content-Type") != "text/plain" {
				t.Fatalf("got %+v", got)
			}
		}
	})
}

func TestABodyArrivesWholeWhateverItsSizeAndFraming(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, kind := range []string{"wsgi", "asgi"} {
			for _, spool := range []bool{true, false} {
				r := newRig(t, pool.Options{}, pool.AppOptions{Name: "app", Spool: spool})
				r.attach(transport, kind, 1, echo)
				c := client()
				for _, size := range []int{1, 16 << 10, 16<<10 + 1, 64 << 10, 64<<10 + 1, 1<<20 + 1} {
					body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
					for _, chunked := range []bool{false, true} {
						var from io.Reader = strings.NewReader(body)
						if chunked {
							from = io.MultiReader(from) // net/http cannot know its length
						}
						res, err := c.Post("http://"+r.address, "text/plain", from)
						if err != nil {
							t.Fatal(err)
						}
						got, err := io.ReadAll(res.Body)
						if err != nil || string(got) != body {
							t.Fatalf("%s, spool %t, %d bytes, chunked %t: status %d, %d bytes came back, %v", kind, spool, size, chunked, res.StatusCode, len(got), err)
						}
						_ = res.Body.Close()
					}
				}
				// The client has its answer before the exchange gives the body's memory back.
				eventually(t, "the spool is empty", func() bool { return r.spool.Status() == pool.SpoolStatus{} })
			}
		}
	})
}

func TestManyClientsShareAWorker(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newRig(t, pool.Options{Threads: 8}, pool.AppOptions{Name: "app", Spool: true})
		r.attach(transport, "wsgi", 8, echo)
		var wait sync.WaitGroup
		c := client()
		for i := range 64 {
			wait.Go(func() {
				for j := range 15 {
					body := strings.Repeat(string(rune('a'+i%26)), 1+i*j%3000)
					if got := r.do(c, http.MethodPost, "/", body); got.err != nil || got.body != body {
						t.Errorf("got %d %v, %d bytes for %d", got.status, got.err, len(got.body), len(body))
						return
					}
				}
			})
		}
		wait.Wait()
	})
}
