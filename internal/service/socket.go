package service

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/config"
)

// Socket is an address at which systemd listens for the server.
type Socket struct {
	Name    string // as listen = ["systemd:NAME"] has it; empty: all of them
	Address string // as server.listen has it
}

// ParseSocket reads [NAME=]ADDRESS.
func ParseSocket(text string) (Socket, error) {
	var s Socket
	if name, rest, named := strings.Cut(text, "="); named && !strings.ContainsAny(name, ":/?") {
		s.Name, text = name, rest
	}
	l, err := config.ParseListen(text, config.DefaultPort)
	if err != nil || l.Network != "tcp" && l.Network != "unix" {
		return s, fmt.Errorf("--socket %s: must be [NAME=]HOST:PORT, a port, or unix:PATH", text)
	}
	s.Address = text
	return s, nil
}

// socketFiles makes a unit for each name: systemd gives all sockets of a unit one.
func (u *Unit) socketFiles() ([]File, error) {
	if err := u.checkSockets(); err != nil {
		return nil, err
	}
	byName := map[string][]Socket{}
	for _, s := range u.Sockets {
		byName[s.Name] = append(byName[s.Name], s)
	}
	var files []File
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		var l lines
		l.section("Unit")
		l.set("Description", "Sockets of Guado: "+strings.ReplaceAll(u.Name, "%", "%%"))
		l.section("Socket")
		file := u.Name
		if name != "" {
			l.set("FileDescriptorName", name)
			file += "-" + name
		}
		for _, s := range byName[name] {
			at, err := config.ParseListen(s.Address, config.DefaultPort)
			if err != nil {
				return nil, err
			}
			u.listenStream(&l, at, s.Address)
		}
		l.set("Service", u.Name+".service")
		l.section("Install")
		l.set("WantedBy", "sockets.target")
		files = append(files, File{file + ".socket", strings.TrimPrefix(l.String(), "\n")})
	}
	return files, nil
}

func (u *Unit) listenStream(l *lines, at config.Listener, given string) {
	if at.Network == "unix" {
		l.set("ListenStream", strings.ReplaceAll(at.Address, "%", "%%"))
		mode := at.Mode
		if mode == 0 {
			mode = 0o660
		}
		l.set("SocketMode", fmt.Sprintf("%04o", mode))
		if u.User != "" {
			l.set("SocketUser", u.User)
		}
		return
	}
	// A bare port is every address here; the server's own "8000" would be loopback.
	if port, all := strings.CutPrefix(given, ":"); all {
		l.set("ListenStream", port)
		return
	}
	l.set("ListenStream", at.Address)
	l.set("FreeBind", "yes")
}

// checkSockets compares the sockets with server.listen: the server takes none that its
// configuration does not ask for.
func (u *Unit) checkSockets() error {
	list, err := u.Config.Listeners()
	if err != nil {
		return err
	}
	var asked []string
	any := !u.Config.Given("server.listen")
	for _, l := range list {
		if l.Network == "systemd" {
			any = any || l.Address == ""
			asked = append(asked, l.Address)
		}
	}
	for _, s := range u.Sockets {
		if !any && !slices.Contains(asked, s.Name) {
			name := "systemd"
			if s.Name != "" {
				name += ":" + s.Name
			}
			return fmt.Errorf("the server would not take the socket %s: server.listen is set and has no %q", s.Address, name)
		}
	}
	if len(u.Sockets) == 0 && len(asked) > 0 {
		name := asked[0]
		if name != "" {
			name += "="
		}
		return fmt.Errorf("server.listen asks for sockets of systemd: say where they are, as --socket %s:80", name)
	}
	return nil
}
