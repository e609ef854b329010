package kill

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// TestSoakAKilledHostLosesNothingThatAClientWasTold kills the host, too, whose state survives
// it: all that was told is there, and no page has ended.
func TestSoakAKilledHostLosesNothingThatAClientWasTold(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	seed := seed(t)
	kinds, fsyncs := []string{"wsgi", "asgi"}, []string{"interval", "always"}
	first, last := int(seed%2), int(seed%2)
	if soaks() {
		first, last = 0, 1
	}
	for i := first; i <= last; i++ {
		kind, fsync := kinds[(i+int(seed/2))%2], fsyncs[i]
		t.Run(kind+"/"+fsync, func(t *testing.T) {
			w := newWorld(t, setting{kind: kind, hosts: true, state: fmt.Sprintf("durability = \"host\"\nfsync = %q", fsync)}, seed)
			w.run(duration(longRun / 2))
			for w.number == 0 { // luck has killed workers alone
				w.killHost()
				w.look()
			}
			w.report()
			w.inTime()
			if w.told.Load() == 0 || w.unknown.Load() == 0 {
				t.Errorf("%d answers, %d without one: nothing was tried", w.told.Load(), w.unknown.Load())
			}
		})
	}
}

// killHost ends the host as the kernel does it that is out of memory, and starts the next one.
func (w *world) killHost() {
	w.t.Helper()
	w.hosts.Lock()
	defer w.hosts.Unlock()
	w.server.Signal(syscall.SIGKILL)
	w.server.Wait(patience)
	w.number++
	w.server = w.start()
}

// where is the host that serves now, and its number. While none does it waits.
func (w *world) where() (url string, number int) {
	w.hosts.RLock()
	defer w.hosts.RUnlock()
	return w.server.URL, w.number
}

// broken is what came of a request whose connection broke: that may be only where its host
// was killed.
func (w *world) broken(host int, err error) error {
	if !w.setting.hosts {
		return err
	}
	if _, now := w.where(); now == host {
		return fmt.Errorf("the connection broke, and its host is there: %w", err)
	}
	return errUnknown
}

// converse asks over the page's session, which goes on with the next host where one was killed.
func (t *tab) converse(d do, into any) error {
	err := t.socket.ask(d, into)
	if !errors.Is(err, errSession) {
		return err
	}
	if err := t.world.broken(t.socket.host, err); !errors.Is(err, errUnknown) {
		return err
	}
	return t.again()
}

// again connects to the host that serves now. The page must be there.
func (t *tab) again() error {
	for {
		_, host := t.world.where()
		next, err := t.browser.connect(t.page, t.copy, t.socket)
		if err == nil {
			t.socket = next
			return errUnknown
		}
		if broken := t.world.broken(host, err); !errors.Is(broken, errUnknown) {
			return fmt.Errorf("the page is gone: %w", broken)
		}
	}
}
