// Package service is the host as a service of the machine: it tells the service manager
// that started it how it is (sd_notify), and writes the unit by which systemd runs it.
// Before it: the root package, which knows the life of a host. After it: systemd.
// Not here: sockets that systemd passes (edge), and the notify sockets of programs.
package service

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// State is where the host is in its life, as a service manager sees it.
type State string

// The states of a host.
const (
	Starting  State = "starting"
	Ready     State = "ready"
	Reloading State = "reloading"
	Stopping  State = "stopping"
)

// word is what a manager is told of a change.
type word struct {
	text string
	from []State // it is said in these; in another one it would be wrong, and nobody's mistake
	to   State
}

var (
	ready     = word{daemon.SdNotifyReady, []State{Starting}, Ready}
	reloading = word{daemon.SdNotifyReloading, []State{Ready}, Reloading}
	reloaded  = word{daemon.SdNotifyReady, []State{Reloading}, Ready}
	stopping  = word{daemon.SdNotifyStopping, []State{Starting, Ready, Reloading}, Stopping}
)

// Patience is how long a host may be in a state before its manager should lose its own.
type Patience struct{ Start, Reload, Stop time.Duration }

// Options of a manager.
type Options struct {
	Socket   string        // NOTIFY_SOCKET
	Watchdog time.Duration // the manager kills a host that it has not heard of for so long; 0: it does not
	// Status tells how the host is, in a line. It is what the watchdog watches: a host
	// that can no longer say how it is, because a lock is not given back, says nothing.
	Status   func() string
	Patience func() Patience
	Log      *slog.Logger
	// Every is how often the manager is told; 0: five seconds, or as the watchdog needs.
	Every time.Duration
}

// Manager is the service manager that started this process. Its nil value is nobody.
type Manager struct {
	opts  Options
	every time.Duration
	once  sync.Once // closes quit
	quit  chan struct{}
	done  chan struct{}

	mu    sync.Mutex // guards all below; held while a message is sent, so that none overtakes another
	state State
	since time.Time
	mute  bool // a message could not be sent: once is enough to say so
}

// FromEnvironment gives the socket and the watchdog's interval that a service manager put
// into the environment of this process, and takes them out: they are meant for no child.
func FromEnvironment() (socket string, watchdog time.Duration, err error) {
	socket = os.Getenv("NOTIFY_SOCKET")
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return "", 0, err
	}
	watchdog, err = daemon.SdWatchdogEnabled(true)
	return socket, watchdog, err
}

// Connect begins to tell a manager of a host that starts. Without a socket it gives nil.
func Connect(o Options) *Manager {
	if o.Socket == "" {
		return nil
	}
	m := &Manager{opts: o, every: o.Every, state: Starting, since: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	const usual, thirds = 5 * time.Second, 3
	if m.every == 0 {
		m.every = usual
	}
	if o.Watchdog > 0 {
		m.every = min(m.every, o.Watchdog/thirds)
	}
	go m.beat()
	return m
}

// beat tells how the host is until Close.
func (m *Manager) beat() {
	defer close(m.done)
	t := time.NewTicker(m.every)
	defer t.Stop()
	for {
		status := m.opts.Status() // without the lock: it asks the whole host
		m.mu.Lock()
		m.send(status, daemon.SdNotifyWatchdog)
		m.mu.Unlock()
		select {
		case <-t.C:
		case <-m.quit:
			return
		}
	}
}

// Ready says that the host serves.
func (m *Manager) Ready() { m.say(ready) }

// Reloading says that the configuration is read again.
func (m *Manager) Reloading() { m.say(reloading) }

// Reloaded says that a reload has ended, well or not: in both cases the host serves.
func (m *Manager) Reloaded() { m.say(reloaded) }

// Stopping says that the host stops.
func (m *Manager) Stopping() { m.say(stopping) }

func (m *Manager) say(w word) {
	if m == nil {
		return
	}
	status := m.opts.Status()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(w.from, m.state) {
		return
	}
	m.state, m.since = w.to, time.Now()
	words := []string{w.text}
	if w.to == Reloading { // systemd takes it for the answer to its signal only with a later time
		words = append(words, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
	}
	m.send(status, words...)
}

// send sends words and what else there is to say. With the lock.
func (m *Manager) send(status string, words ...string) {
	if m.extends() {
		// Until the next word, and a second chance.
		const chances = 3
		words = append(words, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", chances*m.every.Microseconds()))
	}
	words = append(words, "STATUS="+strings.ReplaceAll(status, "\n", " "))
	err := notify(m.opts.Socket, strings.Join(words, "\n"))
	if err != nil && !m.mute {
		m.opts.Log.Warn("the service manager cannot be told how the server is", "socket", m.opts.Socket, "error", err.Error())
	}
	m.mute = err != nil
}

// extends reports whether the manager is asked to wait although its own time for this
// state may be over: a unit that somebody wrote need not know the times of guado.toml.
func (m *Manager) extends() bool {
	p := m.opts.Patience()
	within := map[State]time.Duration{Starting: p.Start, Reloading: p.Reload, Stopping: p.Stop}[m.state]
	return time.Since(m.since) < within
}

// Close ends the telling. What the manager still wants to know it learns from the end of
// the process.
func (m *Manager) Close() {
	if m == nil {
		return
	}
	m.once.Do(func() { close(m.quit) })
	<-m.done
}
