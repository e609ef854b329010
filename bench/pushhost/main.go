// Command soakhost is `guado serve --config FILE` for the soak tests: SIGUSR1 makes it
// collect garbage and give memory back, so that what is left is what leaked; SIGUSR2
// restarts all workers; SIGHUP reads the file again and says what came of it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/guado-server/guado"
	"net/http"
	_ "net/http/pprof"
)

func main() {
	if code, is := guado.Child(); is {
		os.Exit(code)
	}
	go func() { log.Print(http.ListenAndServe("127.0.0.1:6464", nil)) }()
	config, err := guado.Load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := guado.NewResolved(config)
	server.Load = func() (*guado.Config, error) { return guado.Load(os.Args[1]) }
	server.Ready = func(status guado.Status) { fmt.Fprintln(os.Stderr, "serves", status.Listen[0]) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	on(syscall.SIGUSR1, func() {
		for range 2 { // what lies in a pool outlives one collection
			runtime.GC()
		}
		debug.FreeOSMemory()
		fmt.Fprintln(os.Stderr, "collected")
	})
	on(syscall.SIGUSR2, server.Restart)
	on(syscall.SIGHUP, func() {
		if _, err := server.Reload(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "reload refused: %q\n", err)
			return
		}
		fmt.Fprintln(os.Stderr, "reload taken")
	})
	if err := server.Run(ctx); err != nil {
		log.Print(err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// on calls do for each of the signals, until the process ends.
func on(sig os.Signal, do func()) {
	came := make(chan os.Signal, 1)
	signal.Notify(came, sig)
	go func() {
		for range came {
			do()
		}
	}()
}
