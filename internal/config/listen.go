package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Listener is one entry of server.listen, taken apart.
type Listener struct {
	Network string      // "tcp", "unix", "fd" or "systemd"
	Address string      // "127.0.0.1:8000", "/run/guado.sock"; the number of an fd; systemd's name of a socket
	FD      int         // of an inherited socket
	Mode    os.FileMode // of a Unix socket's file; 0: as umask says
	Plain   bool        // "http://": without TLS although there is a certificate
}

// String spells l as server.listen does.
func (l Listener) String() string {
	s := l.Address
	switch l.Network {
	case "unix":
		s = "unix:" + l.Address
		if l.Mode != 0 {
			s += fmt.Sprintf("?mode=%04o", l.Mode)
		}
	case "fd":
		return "fd://" + strconv.Itoa(l.FD)
	case "systemd":
		if l.Address == "" {
			return "systemd"
		}
		return "systemd:" + l.Address
	}
	if l.Plain {
		s = "http://" + s
	}
	return s
}

// Low reports whether it is a port that needs a capability.
func (l Listener) Low() bool {
	const first = 1024
	_, port, err := net.SplitHostPort(l.Address)
	n, errPort := strconv.Atoi(port)
	return l.Network == "tcp" && err == nil && errPort == nil && n > 0 && n < first
}

// ParseListen reads an entry of server.listen. port stands in where none is given.
func ParseListen(text, port string) (Listener, error) {
	if text == "systemd" {
		return Listener{Network: "systemd"}, nil
	}
	if name, ok := strings.CutPrefix(text, "systemd:"); ok {
		if name == "" || strings.ContainsAny(name, ": /") {
			return Listener{}, fmt.Errorf("a socket's name (FileDescriptorName=) must follow systemd:, as \"systemd:web\"")
		}
		return Listener{Network: "systemd", Address: name}, nil
	}
	if number, ok := strings.CutPrefix(text, "fd://"); ok {
		fd, err := strconv.Atoi(number)
		if err != nil || fd < 0 {
			return Listener{}, fmt.Errorf("the number of an open socket must follow fd://, as \"fd://3\"")
		}
		return Listener{Network: "fd", Address: number, FD: fd}, nil
	}
	rest, plain := strings.CutPrefix(text, "http://")
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		l, err := parseUnix(strings.TrimPrefix(path, "//"))
		l.Plain = plain
		return l, err
	}
	address, err := hostPort(rest, port)
	return Listener{Network: "tcp", Address: address, Plain: plain}, err
}

func parseUnix(text string) (Listener, error) {
	path, query, asked := strings.Cut(text, "?")
	l := Listener{Network: "unix", Address: path}
	if path == "" {
		return l, fmt.Errorf("a path must follow unix:, as \"unix:/run/guado.sock\"")
	}
	if !asked {
		return l, nil
	}
	values, err := url.ParseQuery(query)
	mode, errMode := strconv.ParseUint(values.Get("mode"), 8, 32)
	if err != nil || errMode != nil || len(values) != 1 || mode == 0 || mode > 0o777 {
		return l, fmt.Errorf("only the file's mode may follow \"?\", as \"unix:%s?mode=0660\"", path)
	}
	l.Mode = os.FileMode(mode)
	return l, nil
}

// hostPort completes "HOST", ":PORT", "HOST:PORT", "[::1]" and "PORT".
func hostPort(text, port string) (string, error) {
	const form = "must be HOST:PORT, unix:PATH, fd://N, systemd or systemd:NAME"
	if text == "" || strings.ContainsAny(text, "/ ") {
		return "", fmt.Errorf("%s", form)
	}
	if n, err := strconv.Atoi(text); err == nil {
		text = "127.0.0.1:" + strconv.Itoa(n)
	}
	host, given, err := net.SplitHostPort(text)
	if err != nil {
		bare := strings.Trim(text, "[]")
		if strings.Contains(bare, ":") && net.ParseIP(bare) == nil {
			return "", fmt.Errorf("%s", form)
		}
		host, given = bare, port
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 0 || n > 65535 {
		return "", fmt.Errorf("%q is not a port; it must be a number from 0 to 65535", given)
	}
	return net.JoinHostPort(host, given), nil
}

// absolute makes the path of a Unix socket absolute.
func (l Listener) absolute(dir string) Listener {
	if l.Network == "unix" && !filepath.IsAbs(l.Address) && !strings.HasPrefix(l.Address, "@") {
		l.Address = filepath.Join(dir, l.Address)
	}
	return l
}
