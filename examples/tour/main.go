// Command tour serves what guado.toml says, and a Go handler beside it: the library
// form of `guado serve --config guado.toml`.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/guado-server/guado"
)

func main() {
	if code, is := guado.Child(); is {
		os.Exit(code)
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	config, err := guado.Load("guado.toml")
	if err != nil {
		return err
	}
	server := guado.NewResolved(config)
	server.Mount("/go", http.HandlerFunc(hello))
	server.Ready = func(status guado.Status) {
		fmt.Fprintf(os.Stderr, "the tour is open at %s\n", status.Listen[0])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return server.Run(ctx)
}

// hello is an ordinary net/http handler, in the same process as the edge.
func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "Hello from %s, path %q, over %s.\n", runtime.Version(), r.URL.Path, r.Proto)
}
