// Command soakhost is `guado serve --config FILE` for the soak tests: SIGUSR1 makes it
// collect garbage and give memory back, so that what is left is what leaked; SIGUSR2
// restarts all workers.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/guado-server/guado"
)

func main() {
	config, err := guado.Load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	collect := make(chan os.Signal, 1)
	signal.Notify(collect, syscall.SIGUSR1)
	go func() { // ends with the process
		for range collect {
			debug.FreeOSMemory()
			fmt.Fprintln(os.Stderr, "collected")
		}
	}()
	server := guado.NewResolved(config)
	server.Ready = func(status guado.Status) { fmt.Fprintln(os.Stderr, "serves", status.Listen[0]) }
	restart := make(chan os.Signal, 1)
	signal.Notify(restart, syscall.SIGUSR2)
	go func() { // ends with the process
		for range restart {
			server.Restart()
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := server.Run(ctx); err != nil {
		log.Print(err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}
