package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/guado-server/guado/internal/config"
)

func TestAnAccountMayWhatTheModeOfAFileSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info := func(mode os.FileMode) os.FileInfo {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	const stranger = 4242
	_, group := ownerOf(info(0o600))
	for _, c := range []struct {
		who  account
		mode os.FileMode
		want uint32
		may  bool
	}{
		{account{uid: 0}, 0o000, mayWrite, true},
		{account{uid: stranger, groups: []int{stranger}}, 0o600, mayRead, false},
		{account{uid: stranger, groups: []int{stranger}}, 0o604, mayRead, true},
		{account{uid: stranger, groups: []int{stranger, group}}, 0o640, mayRead, true},
		{account{uid: stranger, groups: []int{stranger, group}}, 0o640, mayWrite, false},
		{account{uid: stranger, groups: []int{group}}, 0o606, mayRead, false}, // its group's digit counts
	} {
		if got := c.who.may(info(c.mode), c.want); got != c.may {
			t.Errorf("%+v may %d of %04o: %t", c.who, c.want, c.mode, got)
		}
	}
}

func TestAFolderOnTheWayThatAnAccountCannotEnterIsNamed(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for at := dir; at != filepath.Dir(at) && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil { //nolint:gosec // those above must not be what is found
			t.Fatal(err)
		}
	}
	who := account{uid: 4242, groups: []int{4242}}
	if got := who.reach(filepath.Join(closed, "below", "file")); got != closed {
		t.Errorf("%q is in the way, not %q", got, closed)
	}
	if got := (account{}).reach(filepath.Join(closed, "below", "file")); got != "" {
		t.Errorf("%q is in the way of root", got)
	}
}

func TestAServerThatIsNotRootCannotGiveAccounts(t *testing.T) {
	e := &exam{who: account{uid: 4242}}
	if _, ok := e.processAccount("group a", &config.Account{User: "4343"}); ok || len(e.findings) != 1 || e.findings[0].Verdict != Fail {
		t.Errorf("found %+v", e.findings)
	}
	if who, ok := (&exam{who: account{uid: 0}}).processAccount("group a", &config.Account{User: "4343:4444"}); !ok || who.uid != 4343 || !slices.Contains(who.groups, 4444) {
		t.Errorf("root: %+v, %t", who, ok)
	}
}

func TestAFolderThatAnAccountCannotReadIsFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // its mode is what is looked at
		t.Fatal(err)
	}
	e := &exam{}
	e.readable("folder", dir, account{uid: 4242})
	e.readable("folder", dir, account{uid: 0})
	e.readable("folder", filepath.Join(dir, "none"), account{uid: 0})
	if got := []Verdict{e.findings[0].Verdict, e.findings[1].Verdict, e.findings[2].Verdict}; !slices.Equal(got, []Verdict{Fail, OK, Fail}) {
		t.Errorf("found %+v", e.findings)
	}
}

func TestTheAccountOfAProcessIsRead(t *testing.T) {
	a, ok := accountOfProcess(os.Getpid())
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc")
	}
	if !ok || a.uid != os.Geteuid() || len(a.groups) == 0 {
		t.Errorf("found %+v", a)
	}
}
