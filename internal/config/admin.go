package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Admin is where the host is seen and steered.
type Admin struct {
	Socket string `toml:"socket" doc:"Unix socket of the admin interface (mode 0600), to which guado status, ps, logs, reload and their like speak. Empty: admin.sock in server.state_dir when that is set, else a name made from the place of this file in the default folder. \"off\": none."`

	PushSocket string `toml:"push_socket" doc:"From phase 3 on: Unix socket on which programs push and publish, each with a token of its own that it finds in its environment (GUADO_PUSH, GUADO_PUSH_TOKEN). Empty: a name made from the place of this file, in $RUNTIME_DIRECTORY, else /run/guado for root and $XDG_RUNTIME_DIR/guado for other accounts, else in a folder of the account in /tmp. \"off\": none."`

	Clock bool `toml:"clock" default:"false" doc:"For tests alone: lets POST /v1/clock move the time by which users, connections and pages live, so that a day of life takes seconds. Refused unless the environment has GUADO_TEST=1."`

	// Derived is set when nothing names the socket: another host that is told the same
	// then takes a name beside it, and one that cannot have any serves without.
	Derived bool `toml:"-"`
	// PushDerived is the same for the socket of programs.
	PushDerived bool `toml:"-"`
}

// AdminOff is the socket of a host without admin interface.
const AdminOff = "off"

// longestSocket is what all systems take as the path of a Unix socket (104 bytes with
// its end on BSD), less what a name beside it adds.
const longestSocket = 103 - len(".12345678")

// AdminSocket tells where a host that is started with these options has its admin
// socket. It reads as little as it can: whoever asks how the host is must not be told
// that a mount in the file, edited since, is wrong.
func AdminSocket(o Options) (string, error) {
	t, dir, err := o.read()
	if err != nil {
		return "", err
	}
	var ignored problems // of other keys
	t.overlay(o.Environ, &ignored)
	text := func(table, key string) string {
		m, _ := t.root[table].(map[string]any)
		s, _ := m[key].(string)
		return s
	}
	r := resolver{Config: &Config{File: o.File, Dir: dir}, environ: o.Environ}
	r.Admin.Socket = text("admin", "socket")
	if state := text("server", "state_dir"); state != "" {
		r.Server.StateDir = r.absolute(state)
	}
	r.folders()
	return r.Admin.Socket, r.err()
}

// adminSocket gives the socket its place; own tells whether the state folder was
// named, and so is this host's alone.
func (r *resolver) adminSocket(own bool) {
	a := &r.Admin
	switch {
	case a.Socket == AdminOff:
		return
	case a.Socket != "":
		a.Socket = r.absolute(a.Socket)
		if len(a.Socket) > longestSocket {
			r.wrong("admin.socket", "admin.socket", a.Socket, "is too long for a socket: at most %d bytes; name a shorter path, as \"/run/guado/admin.sock\"", longestSocket)
		}
		return
	}
	a.Derived = true
	name := r.instanceName() + ".sock"
	a.Socket = filepath.Join(r.Server.StateDir, "admin", name)
	if own {
		a.Socket = filepath.Join(r.absolute(r.Server.StateDir), "admin.sock")
	}
	if len(a.Socket) > longestSocket {
		a.Socket = filepath.Join("/tmp", "guado-"+strconv.Itoa(os.Getuid()), name)
	}
}

// instanceName tells hosts of one account apart: by the file that each is told, or by
// the folder in which it was started. A part of it is for people.
func (r *resolver) instanceName() string {
	place := r.Dir
	if real, err := filepath.EvalSymlinks(place); err == nil {
		place = real // a shell stands in a folder by any of its names
	}
	if r.File != "" {
		place = filepath.Join(place, filepath.Base(r.File))
	}
	sum := sha256.Sum256([]byte(place))
	const most = 24
	shown := strings.Map(func(c rune) rune {
		if c < 0x80 && nameForm.MatchString("x"+string(c)) {
			return c
		}
		return '-'
	}, filepath.Base(r.Dir))
	return fmt.Sprintf("%.*s-%s", most, shown, hex.EncodeToString(sum[:4]))
}
