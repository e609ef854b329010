package service_test

import (
	"crypto/rand"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guado-server/guado/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 30 * time.Second

// manager is a service manager that hears what it is told.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	name string
}

func listen(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, name: "@guado-test-" + rand.Text()}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.name, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

func (m *manager) connect(o service.Options) *service.Manager {
	o.Socket = m.name
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Status == nil {
		o.Status = func() string { return "well" }
	}
	if o.Patience == nil {
		o.Patience = func() service.Patience { return service.Patience{} }
	}
	host := service.Connect(o)
	m.t.Cleanup(host.Close)
	return host
}

// hear waits for the next message that has this word.
func (m *manager) hear(word string) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("no %s: %v", word, err)
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			if strings.HasPrefix(line, word) {
				return string(buf[:n])
			}
		}
	}
}

// rest is what is still to be heard once nobody says any more.
func (m *manager) rest() string {
	m.t.Helper()
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		_ = m.conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // what was sent is there
		n, err := m.conn.Read(buf)
		if err != nil {
			return b.String()
		}
		b.Write(buf[:n])
		b.WriteString("\n")
	}
}

func TestAServerWithoutAManagerTellsNobody(t *testing.T) {
	host := service.Connect(service.Options{})
	if host != nil {
		t.Fatal("there is a manager")
	}
	host.Ready()
	host.Reloading()
	host.Reloaded()
	host.Stopping()
	host.Close()
}

func TestAReloadBeforeTheServerIsReadyDoesNotMakeItReady(t *testing.T) {
	m := listen(t)
	host := m.connect(service.Options{Every: time.Hour})
	host.Reloading()
	host.Reloaded()
	host.Stopping()
	host.Close()
	all := m.rest()
	if strings.Contains(all, "RELOADING=1") || strings.Contains(all, "READY=1") || !strings.Contains(all, "STOPPING=1") {
		t.Errorf("told:\n%s", all)
	}
}

func TestAReloadThatEndsWhileTheServerStopsDoesNotMakeItReady(t *testing.T) {
	m := listen(t)
	host := m.connect(service.Options{Every: time.Hour})
	host.Ready()
	host.Reloading()
	host.Stopping()
	host.Reloaded()
	host.Close()
	all := m.rest()
	if _, after, _ := strings.Cut(all, "STOPPING=1"); strings.Contains(after, "READY=1") {
		t.Errorf("told:\n%s", all)
	}
}

func TestTheWatchdogHearsNothingOfAHostThatCannotSayHowItIs(t *testing.T) {
	m := listen(t)
	var stuck atomic.Bool
	inside, release := make(chan struct{}), make(chan struct{})
	host := m.connect(service.Options{Watchdog: 150 * time.Millisecond, Status: func() string {
		if stuck.CompareAndSwap(true, false) {
			close(inside)
			<-release
		}
		return "well"
	}})
	for range 3 {
		m.hear("WATCHDOG=1")
	}
	stuck.Store(true)
	select {
	case <-inside:
	case <-time.After(limit):
		t.Fatal("the host is not asked how it is")
	}
	m.rest()
	if err := m.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := m.conn.Read(make([]byte, 4096)); err == nil {
		t.Errorf("a host that is stuck has sent %d bytes", n)
	}
	close(release)
	m.hear("WATCHDOG=1")
	host.Close()
}

func TestTheManagerIsAskedToWaitOnlyAsLongAsTheHostMayTake(t *testing.T) {
	m := listen(t)
	var start atomic.Int64
	start.Store(int64(time.Hour))
	host := m.connect(service.Options{Every: 10 * time.Millisecond, Patience: func() service.Patience {
		return service.Patience{Start: time.Duration(start.Load()), Stop: time.Hour}
	}})
	if text := m.hear("EXTEND_TIMEOUT_USEC="); !strings.Contains(text, "EXTEND_TIMEOUT_USEC=30000\n") {
		t.Errorf("told: %s", text)
	}
	start.Store(0)
	for text := m.hear("STATUS="); strings.Contains(text, "EXTEND"); text = m.hear("STATUS=") { // until it has been heard
	}
	host.Ready()
	if text := m.hear("READY=1"); strings.Contains(text, "EXTEND") {
		t.Errorf("told: %s", text)
	}
	host.Stopping()
	if text := m.hear("STOPPING=1"); !strings.Contains(text, "EXTEND") {
		t.Errorf("told: %s", text)
	}
}

func TestAManagerThatDoesNotReadHoldsNothingUpForLong(t *testing.T) {
	m := listen(t)
	var log strings.Builder
	host := m.connect(service.Options{Every: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil))})
	m.hear("STATUS=") // its own word; from now on only this test makes it speak
	host.Ready()
	for range 1000 { // more than a socket takes
		before := log.Len()
		host.Reloading()
		host.Reloaded()
		if log.Len() > before {
			break
		}
	}
	host.Stopping()
	host.Close()
	if n := strings.Count(log.String(), "cannot be told"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}

func TestTheVariablesOfTheManagerAreTakenOutOfTheEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("WATCHDOG_USEC", "2000000")
	socket, watchdog, err := service.FromEnvironment()
	if err != nil || socket != "/run/x" || watchdog != 2*time.Second {
		t.Errorf("%q, %s, %v", socket, watchdog, err)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if value, is := os.LookupEnv(name); is {
			t.Errorf("%s is still %q", name, value)
		}
	}
}
