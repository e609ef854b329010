//go:build !race

package http1

import (
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// Not under the race detector, which multiplies what memory costs.
func TestTenThousandIdleConnectionsCostLittleMemory(t *testing.T) {
	const want, perConnection = 10_000, 6 << 10
	count := want
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if free := int(files.Cur)/2 - 100; free < count {
		t.Logf("%d descriptors allow %d connections only", files.Cur, free)
		count = free
	}
	r := serve(t, deep)
	r.reports = nil
	var served sync.WaitGroup
	clients := make([]int, 0, count)
	t.Cleanup(func() {
		for _, fd := range clients {
			_ = syscall.Close(fd)
		}
		served.Wait()
	})
	before := memory()
	buf := make([]byte, 1000)
	for range count {
		// The client's end is a bare descriptor: what we measure is the server's.
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, pair[0])
		f := os.NewFile(uintptr(pair[1]), "server")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		served.Add(1)
		go func() {
			defer served.Done()
			r.ServeConn(c, &lane.Conn{Unix: true})
		}()
		if _, err := syscall.Write(pair[0], []byte(fullRequest)); err != nil {
			t.Fatal(err)
		}
		if n, err := syscall.Read(pair[0], buf); err != nil || n < 20 {
			t.Fatalf("%d bytes of an answer, %v", n, err)
		}
	}
	until(t, "all connections idle", func() bool { return r.Idle() == count })
	each := (memory() - before) / count
	t.Logf("%d idle connections cost %d bytes each", count, each)
	if each > perConnection {
		t.Errorf("an idle connection costs %d bytes, more than %d", each, perConnection)
	}
}

func TestARequestAllocatesNothingInTheSteadyState(t *testing.T) {
	for name, request := range map[string]string{
		"browser": fullRequest,
		"form":    "POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + string(make([]byte, 1000)),
		"chunked": chunkedHead + "5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			buf := make([]byte, 4096)
			r := serve(t, func(x *exchange.Exchange) {
				for {
					if _, err := x.Body.Read(buf); err != nil {
						break
					}
				}
				hello(x)
			})
			r.reports = nil
			c, ask := r.dial(), []byte(request)
			answer := make([]byte, 4096)
			rounds := func(n int) {
				for range n {
					if _, err := c.Write(ask); err != nil {
						t.Fatal(err)
					}
					if _, err := c.Read(answer); err != nil {
						t.Fatal(err)
					}
				}
			}
			const n = 2000
			rounds(n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			rounds(n)
			runtime.ReadMemStats(&after)
			// Now and then the collector empties the pool, and the clock ticks.
			if allocs := after.Mallocs - before.Mallocs; allocs > n/10 {
				t.Errorf("%d allocations in %d requests", allocs, n)
			}
		})
	}
}

// deep answers from some way down the stack, as a road does.
func deep(x *exchange.Exchange) { deeper(x, 8) }

//go:noinline
func deeper(x *exchange.Exchange, n int) byte {
	var frame [512]byte
	frame[n] = byte(n)
	if n == 0 {
		hello(x)
		return frame[0]
	}
	return deeper(x, n-1) + frame[n]
}

// memory is what heap and stacks hold once nothing is left to collect. A stack shrinks
// by half at each collection.
func memory() int {
	for range 4 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
