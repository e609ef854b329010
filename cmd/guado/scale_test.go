package main

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTheNumberOfWorkersIsAnotherOneUntilTheNextReload(t *testing.T) {
	text := oneApp + "[[executor]]\nname = \"cpu\"\nprocesses = 1\n"
	r := newReloadable(t, text)
	count := func(group string) int { return strings.Count(r.pids(), group+" ") }
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 { // no request is lost meanwhile
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a := get(t, r.url); a != (answer{200, "one "}) {
					t.Errorf("answer %+v", a)
					return
				}
			}
		})
	}
	for _, c := range []struct {
		args, say string
		code      int
		told, cpu int
	}{
		{"told 3", "app.told.workers  replaced workers  2       3", exitOK, 3, 1},
		{"told 3", "told has 3 already", exitOK, 3, 1},
		{"told 1", "app.told.workers  replaced workers  3       1", exitOK, 1, 1},
		{"cpu 2", "executor.cpu.processes  replaced workers  1       2", exitOK, 1, 2},
		{"cpu 0", "at least one", exitUsage, 1, 2},
		{"told many", "at least one", exitUsage, 1, 2},
		{"nobody 2", "there is no group nobody", exitFailed, 1, 2},
	} {
		done := run(t, r.dir, append([]string{"workers", "scale"}, strings.Fields(c.args)...)...)
		if done.code != c.code || !strings.Contains(done.out+done.err, c.say) {
			t.Errorf("scale %s: %+v, want %q", c.args, done, c.say)
		}
		if told, cpu := count("told"), count("cpu"); told != c.told || cpu != c.cpu {
			t.Errorf("after scale %s: %d and %d workers", c.args, told, cpu)
		}
	}
	if _, keys := r.reload(text); keys != "app.told.workers: replaced workers\nexecutor.cpu.processes: replaced workers\n" {
		t.Errorf("the next reload: %s", keys)
	}
	if told, cpu := count("told"), count("cpu"); told != 2 || cpu != 1 {
		t.Errorf("after it: %d and %d workers", told, cpu)
	}
	close(stop)
	clients.Wait()
}

func TestAReloadStartsFrozenWorkersAnew(t *testing.T) {
	text := oneApp + "[[app]]\nname = \"frozen\"\ntarget = \"frozen:application\"\nfreeze_after = 1\n[[mount]]\npath = \"/frozen\"\napp = \"frozen\"\n"
	dir, s := site(t, map[string]string{"told.py": told, "frozen.py": "import nothing_there\n", "guado.toml": text})
	s.wait(`worker is frozen.* group=frozen`)
	if a := get(t, s.url+"/frozen"); a.status != 503 {
		t.Errorf("%+v", a)
	}
	write(t, filepath.Join(dir, "frozen.py"), hello)
	if done := run(t, dir, "reload"); done.code != exitOK {
		t.Errorf("%+v", done)
	}
	poll(t, "it serves", func() bool { return get(t, s.url+"/frozen").status == 200 })
}
