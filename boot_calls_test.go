package guado_test

import (
	"fmt"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

const callsAtImport = `
import threading, time
import guado

class Register:
    def items(self): return []
    def replace(self, items): pass

def calls():
    try:
        while True:
            guado.global_store().add("n").result()
    except guado.HostError:
        pass

for _ in range(2):
    threading.Thread(target=calls, daemon=True).start()
time.sleep(0.2)  # so that they are under way when the worker begins to serve

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
`

// Whoever waits for a reply may be the link's reader at the moment in which the worker begins to
// serve: a thread of the application, or the one that gives the items of a register back.
func TestAWorkerBootsWhileThreadsOfItsApplicationWaitForTheHost(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "early.py", callsAtImport)
	configure := func(threads int) {
		write(t, dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = 4\ncache_dir = \"cache\"\n"+
			"[[app]]\nname = \"early\"\ntarget = \"early:app\"\nregister = \"early:Register\"\nthreads = %d\nboot_timeout = \"30s\"\npython = %q\n",
			threads, harness.Python(t, "newest")))
	}
	configure(2)
	s := siteOf(t, dir)
	for i := range 5 {
		configure(3 + i)
		if _, err := s.Reload(t.Context()); err != nil {
			t.Fatalf("worker %d: %v", i+2, err)
		}
	}
}
