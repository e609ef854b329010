package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// listen calls act for each signal that a server knows, one after the other. The
// function it gives ends that and waits for the last call; it may be called twice.
func listen(act func(os.Signal)) (end func()) {
	received := make(chan os.Signal, 4)
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-received:
				act(s)
			case <-quit:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(received)
		close(quit)
		<-done
	})
}

func isHangup(s os.Signal) bool { return s == syscall.SIGHUP }

// interruptible gives a context that SIGINT and SIGTERM end, for verbs that wait.
func interruptible(ctx context.Context) (context.Context, func()) {
	return signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
}
