package chaos

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

const (
	gibibyte = 1 << 30
	// streaming is what a gibibyte that passes through may add to a process.
	streaming = 8 << 20
	idle      = 40 << 20
	// sumOfZeros is the SHA-256 of a gibibyte of zeros.
	sumOfZeros = "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
)

// zeros is a body of n bytes that calls look now and then while it is read.
type zeros struct {
	left int
	look func()
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	if z.left>>26 != (z.left-n)>>26 { // every 64 MiB
		z.look()
	}
	z.left -= n
	return n, nil
}

func TestAStreamedGibibyteAddsLittleMemoryToHostAndWorker(t *testing.T) {
	if testing.Short() {
		t.Skip("moves four gibibytes")
	}
	for _, target := range []string{"slow:application", "starlette_app:app"} {
		s := harness.Start(t, harness.Options{Args: []string{target}})
		c := harness.Client(t, "http1")
		pids := append(s.Workers(), s.PID)
		if rss := rssAnon(t, s.PID); rss > idle {
			t.Errorf("an idle host takes %d KiB", rss>>10)
		} else {
			t.Logf("an idle host takes %d KiB", rss>>10)
		}
		paths := map[string]string{"slow:application": "/big?n=1073741824", "starlette_app:app": "/big"}
		grew := growth(t, pids, func(look func()) {
			res, err := c.Get(s.URL + paths[target])
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			n, err := io.Copy(io.Discard, io.TeeReader(res.Body, &counter{look: look}))
			if err != nil || n != gibibyte {
				t.Fatalf("%d bytes, %v", n, err)
			}
		})
		t.Logf("%s: a download adds %d KiB", target, grew>>10)
		if grew > streaming {
			t.Errorf("%s: a download of 1 GiB adds %d KiB", target, grew>>10)
		}
		// WSGI: the body is collected first, on disk. ASGI: it streams.
		grew = growth(t, pids, func(look func()) {
			r, err := http.NewRequest("POST", s.URL+"/digest", &zeros{left: gibibyte, look: look})
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = gibibyte
			res, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			last, lines := "", bufio.NewScanner(res.Body)
			for lines.Scan() { // while the application reads
				look()
				last = lines.Text()
			}
			if res.StatusCode != 200 || !strings.Contains(last, sumOfZeros) {
				t.Fatalf("%d %q %v", res.StatusCode, last, lines.Err())
			}
		})
		t.Logf("%s: an upload adds %d KiB", target, grew>>10)
		if grew > streaming {
			t.Errorf("%s: an upload of 1 GiB adds %d KiB", target, grew>>10)
		}
	}
}

// counter calls look every 64 MiB.
type counter struct {
	n    int
	look func()
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n>>26 != (c.n+len(p))>>26 {
		c.look()
	}
	c.n += len(p)
	return len(p), nil
}

// growth is how much the largest of the processes grew at its highest, looked at
// while body runs.
func growth(t *testing.T, pids []int, body func(look func())) int {
	t.Helper()
	before := map[int]int{}
	for _, pid := range pids {
		before[pid] = rssAnon(t, pid)
	}
	most := 0
	body(func() {
		for _, pid := range pids {
			most = max(most, rssAnon(t, pid)-before[pid])
		}
	})
	return most
}
