package admin

import (
	"context"
	"errors"
	"net"
	"os"
	"os/user"
	"strconv"
)

// Peer is the process at the other end of a connection.
type Peer struct {
	PID     int // 0: in a namespace that we cannot see into
	UID     int
	User    string
	Command string
}

var (
	errChild   = errors.New("it was started by this host: workers and programs may not steer it")
	errAccount = errors.New("it belongs to another account")
)

type peerKey struct{}

// visitor is what is known of a connection: who it is, or why it is refused.
type visitor struct {
	peer Peer
	err  error
}

func visitorOf(ctx context.Context) visitor {
	v, _ := ctx.Value(peerKey{}).(visitor)
	return v
}

// identify is http.Server.ConnContext: who connects is asked once, at once, because a
// process may hand its connection on.
func (s *Server) identify(ctx context.Context, c net.Conn) context.Context {
	v := visitor{}
	v.peer, v.err = peerOf(c)
	switch {
	case s.options.Tokens != nil:
		v.err = nil // what counts is what it shows
	case v.err == nil:
		v.err = s.admit(v.peer)
	}
	return context.WithValue(ctx, peerKey{}, v)
}

// admit refuses whoever must not steer the host. The socket's mode keeps strangers
// away; this is for the host's own children, which run as the same account: an
// application that can be talked into opening a Unix socket must not be a way to stop
// its own server.
func (s *Server) admit(p Peer) error {
	if p.UID != os.Geteuid() && p.UID != 0 {
		return errAccount
	}
	child, err := descends(p.PID, s.options.Host, s.options.Instance)
	if err == nil && child {
		err = errChild
	}
	return err
}

// userName gives the account's name; its number where it has none.
func userName(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}
