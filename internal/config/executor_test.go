package config

import (
	"strings"
	"testing"
	"time"
)

func TestTheProcessesOfAnExecutorAreAGroupLikeThatOfItsApp(t *testing.T) {
	dir := folder(t, map[string]string{"shop/x": ""})
	c := mustLoad(t, dir, shop+"dir = \"shop\"\nworkers = 4\nthreads = 9\nmax_requests = 7\numask = \"027\"\n[app.env]\nA = \"1\"\n"+
		"[[executor]]\nname = \"cpu\"\nprocesses = 3\nqueue = 5\nmax_tasks = 11\npreload = [\"shop.reports\", \"shop.maps\"]\n")
	g := c.ExecutorGroup(c.Executor("cpu"))
	if g.Name != "cpu" || g.Dir != dir+"/shop" || g.Workers != 3 || g.Threads != 1 || g.Umask != "027" || g.MaxRequests != 11 {
		t.Errorf("%+v", g)
	}
	if g.Env["A"] != "1" || g.Env["GUADO_PRELOAD"] != "shop.reports,shop.maps" || c.Groups[0].Env["GUADO_PRELOAD"] != "" {
		t.Errorf("environment %v, of the app %v", g.Env, c.Groups[0].Env)
	}
}

func TestWhatIsWrongWithAnExecutorIsSaid(t *testing.T) {
	const other = "[[app]]\nname = \"api\"\ntarget = \"api\"\n[[mount]]\npath = \"/\"\napp = \"shop\"\n[[mount]]\npath = \"/api\"\napp = \"api\"\n"
	for text, want := range map[string]string{
		other + "[[executor]]\nname = \"cpu\"\n":                          "executor.cpu: needs a group: the app or group whose code its tasks are; known are: shop, api",
		"[[executor]]\nname = \"cpu\"\ngroup = \"ship\"\n":                `executor.cpu.group = "ship": there is no such [[group]] or [[app]]; did you mean "shop"?`,
		"[[executor]]\nname = \"shop\"\n":                                 `is the name of an app or group, too`,
		"[[executor]]\nname = \"cpu\"\nprocesses = 0\n":                   "must be at least 1",
		"[[executor]]\nname = \"cpu\"\npreload = [\"shop/reports.py\"]\n": `must be a module, as "shop.tasks"`,
		"[[executor]]\nname = \"cpu\"\n[[executor]]\nname = \"cpu\"\n":    "is the name of executor[0], too",
		"[[executor]]\n": "needs a name",
		"[[executor]]\nname = \"cpu\"\nworkers = 2\n": `unknown key`,
	} {
		_, err := load(t, t.TempDir(), shop+text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestExecutorsHaveNoDeadlinesInDevelopment(t *testing.T) {
	dir := folder(t, map[string]string{"guado.toml": shop + "[[executor]]\nname = \"cpu\"\ntask_timeout = 5\n"})
	for dev, want := range map[bool]time.Duration{false: 5 * time.Second, true: 0} {
		c, err := Load(Options{File: "guado.toml", Workdir: dir, Environ: []string{"HOME=" + home}, Dev: dev})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Executors[0].TaskTimeout.Std(); got != want {
			t.Errorf("dev %t: %v, want %v", dev, got, want)
		}
	}
}
