package config

import (
	"path/filepath"
	"strings"
	"testing"
)

const phase3 = "[server]\nphase = 3\n"

func TestFromPhase3OnOneGroupHasTheState(t *testing.T) {
	dir := t.TempDir()
	c := mustLoad(t, dir, phase3+shop)
	if c.StateGroup() != "shop" || !c.Group("shop").State {
		t.Errorf("the only group: %q", c.StateGroup())
	}
	if c := mustLoad(t, dir, shop); c.StateGroup() != "" {
		t.Errorf("in phase 0: %q", c.StateGroup())
	}
	const two = shop + "[[app]]\nname = \"api\"\ntarget = \"api:app\"\nSTATE\n[[mount]]\npath = \"/\"\napp = \"shop\"\n[[mount]]\npath = \"/api\"\napp = \"api\"\n"
	c = mustLoad(t, dir, phase3+strings.Replace(two, "STATE", "state = true", 1))
	if c.StateGroup() != "api" {
		t.Errorf("of two: %q", c.StateGroup())
	}
	c = mustLoad(t, dir, phase3+shop+"[[executor]]\nname = \"cpu\"\n")
	if g := c.ExecutorGroup(c.Executor("cpu")); g.State {
		t.Error("the processes of an executor have the state, too")
	}
	for _, bad := range []struct{ text, want string }{
		{phase3 + strings.Replace(two, "STATE", "", 1), "state = true"},
		{phase3 + "[[app]]\nname = \"shop\"\ntarget = \"shop:app\"\nworkers = 2\n", "must be 1"},
		{phase3 + "[[mount]]\nredirect = \"https://example.org\"\n", "no application"},
		{"[server]\nphase = 2\n" + shop, "phase"},
		{strings.Replace(two, "STATE", "state = true", 1) + "[[group]]\nname = \"g\"\nstate = true\n[[app]]\nname = \"third\"\ntarget = \"t\"\ngroup = \"g\"\n[[mount]]\npath = \"/third\"\napp = \"third\"\n", "exactly one"},
	} {
		if ps := problemsOf(t, dir, bad.text); !strings.Contains(ps, bad.want) {
			t.Errorf("%s\nis refused with %q, without %q", bad.text, ps, bad.want)
		}
	}
}

// problemsOf loads what is wrong.
func problemsOf(t *testing.T, dir, text string) string {
	t.Helper()
	_, err := load(t, dir, text)
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTheStateFolderOfPhase3IsThisServersOwn(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		text, variable, want string
	}{
		{phase3, "", filepath.Join(dir, ".guado")},
		{phase3, "STATE_DIRECTORY=/var/lib/shop:/var/lib/other", "/var/lib/shop"},
		{phase3, "STATE_DIRECTORY=relative", filepath.Join(dir, ".guado")},
		{phase3 + "state_dir = \"here\"\n", "STATE_DIRECTORY=/var/lib/shop", filepath.Join(dir, "here")},
	} {
		got := mustLoad(t, dir, c.text+shop, c.variable)
		if got.Server.StateDir != c.want {
			t.Errorf("%q %s: %q, not %q", c.text, c.variable, got.Server.StateDir, c.want)
		}
		if named := strings.Contains(c.text, "state_dir"); strings.HasPrefix(got.Admin.Socket, c.want) != named {
			t.Errorf("%q %s: the admin socket is %q", c.text, c.variable, got.Admin.Socket)
		}
	}
}

func TestWhatIsWrongWithIdentity(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ text, want string }{
		{"[identity]\nuser = \"X-User\"\n", "header:NAME"},
		{"[identity]\nuser = \"header:\"\n", "header:NAME"},
		{"[identity]\nuser = \"header:X-User\"\n", "trusted_proxies"},
		{"[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[identity]\nuser = \"header:guado-user\"\n", "no field of this name"},
		{"[identity]\nguest_ttl = \"3h\"\n", "at most identity.ttl"},
		{"[identity]\nttl = \"9000h\"\n", "a year"},
		{"[cookie]\nname = \"__Host-x\"\n", "prefixes"},
		{"[cookie]\nname = \"a b\"\n", "name of a cookie"},
		{"[cookie]\ndomain = \".example.org\"\n", "a domain such as"},
		{"[page]\nfrom = [\"header:X-Page\"]\n", "the only field"},
		{"[page]\nfrom = [\"cookie:page\"]\n", "query:NAME"},
		{"[[mount]]\nstatic = \".\"\nidentity = true\n", "for mounts of an app"},
	} {
		if ps := problemsOf(t, dir, c.text+shop+"[[mount]]\npath = \"/shop\"\napp = \"shop\"\n"); !strings.Contains(ps, c.want) {
			t.Errorf("%s\nis refused with %q, without %q", c.text, ps, c.want)
		}
	}
	mustLoad(t, dir, "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[identity]\nuser = \"cookie:sso\"\nttl = \"12h\"\n[cookie]\nname = \"who\"\ndomain = \"Example.org\"\n[page]\nfrom = [\"header:guado-page\", \"form:p\"]\n"+shop)
}

func TestNoMountServesTheKeys(t *testing.T) {
	dir := t.TempDir()
	const folder = "[[mount]]\npath = \"/\"\napp = \"shop\"\n[[mount]]\npath = \"/files\"\nstatic = \".\"\n"
	for _, c := range []struct {
		text   string
		served bool
	}{
		{phase3 + shop + folder, false}, // .guado is hidden
		{phase3 + shop + folder + "hidden = true\n", true},
		{phase3 + "state_dir = \"state\"\n" + shop + folder, true},
		{phase3 + "state_dir = \".\"\n" + shop + folder, true},
		{phase3 + "state_dir = \"../elsewhere\"\n" + shop + folder, false},
		{"[server]\nstate_dir = \"state\"\n" + shop + folder, false}, // there are none in phase 0
	} {
		if ps := problemsOf(t, dir, c.text); strings.Contains(ps, "anybody could fetch the keys") != c.served {
			t.Errorf("%s\n%q", c.text, ps)
		}
	}
}
