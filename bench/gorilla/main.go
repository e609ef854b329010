// Command gorilla is the Go peer of bench/ws.py: a plain server of gorilla/websocket, one
// goroutine per connection, default buffers. SIGUSR1 collects garbage and gives memory
// back, so that what is left is what connections take.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/gorilla/websocket"
)

var (
	upgrader websocket.Upgrader

	mu    sync.Mutex
	conns = map[*websocket.Conn]*sync.Mutex{} // and who may write
)

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer func() { _ = c.Close() }()
	for {
		kind, p, err := c.ReadMessage()
		if err != nil {
			return
		}
		if err := c.WriteMessage(kind, p); err != nil {
			return
		}
	}
}

func join(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	mu.Lock()
	conns[c] = new(sync.Mutex)
	mu.Unlock()
	defer func() {
		mu.Lock()
		delete(conns, c)
		mu.Unlock()
		_ = c.Close()
	}()
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			return
		}
	}
}

// broadcast frames the message once and writes it to one connection after the other.
func broadcast(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.FormValue("size"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(strings.Repeat("x", size)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	mu.Lock()
	type receiver struct {
		c       *websocket.Conn
		writing *sync.Mutex
	}
	all := make([]receiver, 0, len(conns))
	for c, writing := range conns {
		all = append(all, receiver{c, writing})
	}
	mu.Unlock()
	for _, to := range all {
		to.writing.Lock()
		_ = to.c.WritePreparedMessage(m) // its reader sees the end
		to.writing.Unlock()
	}
	_, _ = w.Write([]byte("ok"))
}

func main() {
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/join", join)
	http.HandleFunc("/broadcast", broadcast)
	http.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Hello, world!\n")) })
	came := make(chan os.Signal, 1)
	signal.Notify(came, syscall.SIGUSR1)
	go func() {
		for range came {
			for range 2 { // what lies in a pool outlives one collection
				runtime.GC()
			}
			debug.FreeOSMemory()
			fmt.Fprintln(os.Stderr, "collected")
		}
	}()
	log.Fatal(http.ListenAndServe(os.Args[1], nil)) //nolint:gosec // a benchmark's server
}
