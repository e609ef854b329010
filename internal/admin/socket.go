package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// socket is a listening Unix socket with the file that leads to it.
type socket struct {
	listener *net.UnixListener
	path     string
	file     os.FileInfo // ours, so that nobody else's is removed
}

var errInUse = errors.New("another process listens there; stop it, or name another socket (admin.socket)")

// listen opens the socket at path with mode 0600, or for every account. A file that a
// dead process left there is replaced. When a living one listens there, and beside says
// so, it takes a name beside it.
func listen(path string, beside, shared bool) (*socket, error) {
	dir := filepath.Dir(path)
	if err := makeFolder(dir, beside, shared); err != nil {
		return nil, err
	}
	mode := os.FileMode(0o600)
	if shared {
		mode = 0o666
	}
	// Between bind and chmod a socket has the mode that the umask leaves it, and a
	// process cannot change that for one thread. So it is made under a name that nobody
	// knows, and gets its own when it is ours alone.
	hidden := filepath.Join(dir, "."+rand.Text()[:8])
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // by its first name
	s := &socket{listener: listener, path: path}
	err = os.Chmod(hidden, mode)
	if err == nil {
		s.file, err = os.Lstat(hidden)
	}
	if err == nil {
		err = s.name(hidden, beside)
	}
	if gone := os.Remove(hidden); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// name gives the socket its name, by a link: of two hosts that start at once only one
// gets it.
func (s *socket) name(hidden string, beside bool) error {
	err := os.Link(hidden, s.path)
	if !errors.Is(err, fs.ErrExist) {
		if err != nil { // a file system without links
			err = os.Rename(hidden, s.path)
		}
		return err
	}
	alive, err := answers(s.path)
	switch {
	case err != nil:
		return err
	case !alive:
		return os.Rename(hidden, s.path)
	case !beside:
		return errInUse
	}
	s.path = strings.TrimSuffix(s.path, ".sock") + "." + strings.ToLower(rand.Text()[:8]) + ".sock"
	return os.Rename(hidden, s.path)
}

// makeFolder makes the folder of the socket. One that we have chosen ourselves may lie
// where everybody can write: it must be ours, and nobody else's to change.
func makeFolder(dir string, chosen, shared bool) error {
	mode := os.FileMode(0o700)
	if shared {
		mode = 0o711 // to be passed through
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	const othersWrite = 0o022
	if chosen && (!info.IsDir() || !isOurs(info) || info.Mode().Perm()&othersWrite != 0) {
		return fmt.Errorf("folder %s is not this account's alone: remove it, or name another socket (admin.socket)", dir)
	}
	return nil
}

// answers reports whether a process listens at path. What is there and is no socket
// is an error: it is not ours to remove.
func answers(path string) (bool, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Mode()&fs.ModeSocket == 0:
		return false, fmt.Errorf("there is a file that is no socket; remove it, or name another socket (admin.socket)")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return isTimeout(err), nil // its backlog is full: somebody lives
	}
	return true, conn.Close()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// remove takes the file away if it still is ours.
func (s *socket) remove() error {
	info, err := os.Lstat(s.path)
	if err != nil || !os.SameFile(info, s.file) {
		return nil //nolint:nilerr // gone, or another's: either way nothing of ours is left
	}
	return os.Remove(s.path)
}
