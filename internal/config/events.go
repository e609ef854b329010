package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Events bound what waits for those who have subscribed topics.
type Events struct {
	Queue      int    `toml:"queue" default:"1024" min:"1" doc:"Events that may wait for one page with a handler of events, and for the functions of one application."`
	QueueBytes Size   `toml:"queue_bytes" default:"4MiB" min:"1KiB" doc:"And the bytes of their data."`
	Overflow   string `toml:"overflow" default:"drop_oldest" enum:"drop_oldest,drop_newest,close" doc:"What is lost when more come: the event that has waited longest, the one that comes, or the page, which ends (functions of applications go by drop_oldest then)."`

	TableInterval Duration `toml:"table_interval" default:"50ms" min:"0" doc:"Least time between two events about one table (guado.dbevent). The first comes at once; changes within the time behind it come together. 0: each transaction is an event."`
	TableChanges  int      `toml:"table_changes" default:"1000" min:"1" doc:"Rows that one event about a table names. Of more it says only that the table has changed."`
}

// pushSocket gives the socket of programs its place: where what lives no longer than the
// server belongs, and where another account can get to when programs may run as one.
func (r *resolver) pushSocket() {
	a := &r.Admin
	switch {
	case a.PushSocket == AdminOff:
		return
	case a.PushSocket != "":
		a.PushSocket = r.absolute(a.PushSocket)
		if len(a.PushSocket) > longestSocket {
			r.wrong("admin.push_socket", "admin.push_socket", a.PushSocket, "is too long for a socket: at most %d bytes; name a shorter path, as \"/run/guado/push.sock\"", longestSocket)
		}
		return
	}
	a.PushDerived = true
	name := r.instanceName() + ".push.sock"
	first, _, _ := strings.Cut(r.getenv("RUNTIME_DIRECTORY"), ":")
	folder := filepath.Join("/tmp", "guado-"+strconv.Itoa(os.Getuid()))
	for _, dir := range []string{first, r.runFolder()} {
		if at := filepath.Join(dir, name); filepath.IsAbs(dir) && len(at) <= longestSocket {
			folder = dir
			break
		}
	}
	a.PushSocket = filepath.Join(folder, name)
}

// runFolder is the account's folder for sockets; empty: it has none.
func (r *resolver) runFolder() string {
	const system = "/run"
	if os.Getuid() == 0 { // whose programs may be of other accounts, which $XDG_RUNTIME_DIR keeps out
		if canMake(filepath.Join(system, "guado")) {
			return filepath.Join(system, "guado")
		}
		return ""
	}
	if dir := r.getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && canMake(dir) {
		return filepath.Join(dir, "guado")
	}
	return ""
}
