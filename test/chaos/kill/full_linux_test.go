package kill

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAFullDiskWithholdsWhatCannotBeKeptAndHealsByItself lets the kernel refuse every write of
// the host to a file, as a full disk does. What is told then is kept, nothing else is told, and
// when there is room again the server goes on without a restart.
func TestAFullDiskWithholdsWhatCannotBeKeptAndHealsByItself(t *testing.T) {
	w := newWorld(t, setting{kind: "wsgi", hosts: true, state: `durability = "host"`}, 1)
	b := newBrowser(w)
	page, err := b.open()
	if err != nil {
		t.Fatal(err)
	}
	write := func(value int) error {
		var got int
		return b.post("/", page, do{Of: "page", Key: "k", Write: value}, &got)
	}
	read := func() int {
		t.Helper()
		var got int
		if err := b.post("/", page, do{Of: "page", Key: "k"}, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	room(t, w.server.PID, 1)
	if err := write(2); !errors.Is(err, errUnknown) {
		t.Fatalf("it was told that it is kept: %v", err)
	}
	var got int
	if err := b.post("/", page, do{Of: "page", Key: "k"}, &got); !errors.Is(err, errUnknown) {
		t.Errorf("what cannot be kept was read: %d %v", got, err)
	}
	if _, err := b.open(); !errors.Is(err, errUnknown) {
		t.Errorf("a page was opened that cannot be kept: %v", err)
	}
	if log := w.server.Log(); !strings.Contains(log, "durability_unavailable") || !strings.Contains(log, "is the disk full?") {
		t.Errorf("the log does not say why: %s", log)
	}
	w.killHost()
	if got := read(); got != 1 {
		t.Errorf("%d, and 1 was told", got)
	}
	room(t, w.server.PID, 1)
	if err := write(3); !errors.Is(err, errUnknown) {
		t.Fatalf("it was told that it is kept: %v", err)
	}
	room(t, w.server.PID, unix.RLIM_INFINITY)
	w.server.WaitLog("state is kept again", patience)
	if got := read(); got != 3 { // it was done, and is kept now
		t.Errorf("%d, and 3 was written", got)
	}
	if err := write(4); err != nil {
		t.Error(err)
	}
	w.killHost()
	if got := read(); got != 4 {
		t.Errorf("%d, and 4 was told", got)
	}
	w.server.Signal(syscall.SIGTERM)
	if code := w.server.Wait(time.Minute); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// room is how large a file may become by the host's hand.
func room(t *testing.T, pid int, most uint64) {
	t.Helper()
	var now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &now); err != nil {
		t.Fatal(err)
	}
	now.Cur = min(most, now.Max)
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &now, nil); err != nil {
		t.Fatal(err)
	}
}
