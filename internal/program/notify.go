package program

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// notifySocket receives what a program says by sd_notify(3).
type notifySocket struct {
	name string // as NOTIFY_SOCKET has it
	path string // to be removed; empty: it has none
	conn *net.UnixConn
}

// newNotifySocket opens a socket whose name nobody can guess. On Linux it is an
// abstract one: it needs no folder that another user can reach, and leaves nothing
// behind.
func newNotifySocket() (*notifySocket, error) {
	s := &notifySocket{name: "@guado-" + rand.Text()}
	if runtime.GOOS != "linux" {
		s.path = filepath.Join(os.TempDir(), s.name[1:])
		s.name = s.path
	}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.name, Net: "unixgram"}); err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	return s, nil
}

// listen reads messages: the first READY=1 calls ready. It reads on until ctx ends,
// because a process would wait that writes into a full socket.
func (s *notifySocket) listen(ctx context.Context, ready func(), status func(string)) {
	defer context.AfterFunc(ctx, s.close)()
	buf := make([]byte, 4096)
	told := false
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return // closed
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			if text, ok := strings.CutPrefix(line, "STATUS="); ok {
				status(text)
			}
			if line == "READY=1" && !told {
				told = true
				ready()
			}
		}
	}
}

func (s *notifySocket) close() {
	_ = s.conn.Close() // nothing was written
	if s.path != "" {
		_ = os.Remove(s.path) // it may be gone
	}
}
