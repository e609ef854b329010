package supervise

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
)

var errSpawnerClosed = errors.New("no more processes are started: the host is stopping")

// Spawner starts child processes from one thread that lives as long as it does:
// the kernel sends a child its parent-death signal when the *thread* that forked it
// ends, and Go's threads come and go. One serves all groups of a host.
type Spawner struct {
	jobs chan func()
	done chan struct{}
	once sync.Once
	quit chan struct{}
}

// NewSpawner starts the thread.
func NewSpawner() *Spawner {
	s := &Spawner{jobs: make(chan func()), done: make(chan struct{}), quit: make(chan struct{})}
	go s.run()
	return s
}

func (s *Spawner) run() {
	runtime.LockOSThread()
	// Unlocked at the end: a thread that dies with its goroutine would take the
	// children with it that are still on their way out.
	defer runtime.UnlockOSThread()
	defer close(s.done)
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-s.quit:
			return
		}
	}
}

// Start starts cmd.
func (s *Spawner) Start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- cmd.Start() }:
		return <-result
	case <-s.quit:
		return errSpawnerClosed
	}
}

// Close ends the thread; it comes after the end of all children.
func (s *Spawner) Close() {
	s.once.Do(func() { close(s.quit) })
	<-s.done
}
