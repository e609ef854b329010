package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/edge"
)

func (e *exam) network(ctx context.Context) {
	list, err := e.Config.Listeners()
	if err != nil {
		e.find(Fail, "listen", err.Error(), "mend server.listen")
		return
	}
	for _, l := range list {
		e.listener(ctx, "listen "+l.String(), "server.listen", l)
	}
	if at := e.Config.Metrics.Listen; at != "" {
		if l, err := config.ParseListen(at, ""); err == nil {
			e.listener(ctx, "metrics "+l.String(), "metrics.listen", l)
			if l.Network == "tcp" && !loopback(l.Address) {
				e.find(Warn, "metrics "+l.String(), "other machines can read it, without a password", "listen at 127.0.0.1, or let only the scraper through (a firewall)")
			}
		}
	}
	for _, text := range e.Config.Server.TrustedProxies {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() == 0 {
			e.find(Fail, "trusted_proxies", text+": every client may say who it is", "name the addresses of the proxies alone")
		}
	}
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, errIP := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || errIP == nil && ip.IsLoopback())
}

// listener looks whether what key names can be listened at.
func (e *exam) listener(ctx context.Context, check, key string, l config.Listener) {
	switch l.Network {
	case "tcp":
		e.port(check, key, l)
	case "unix":
		e.unixSocket(ctx, check, key, l)
	default:
		e.inherited(check, l)
	}
}

// port looks whether a port can be had: it is asked for, and given back at once.
func (e *exam) port(check, key string, l config.Listener) {
	if e.Running != nil && slices.ContainsFunc(e.Running.Listen, func(url string) bool { return samePort(url, l.Address) }) {
		e.ok(check, fmt.Sprintf("held by the running server (pid %d)", e.Running.PID))
		return
	}
	if l.Low() && e.Running != nil && !e.canLow(l) {
		e.find(Fail, check, fmt.Sprintf("the server's account %s may not take ports below 1024", e.who), lowAdvice)
		return
	}
	held, err := edge.Listen(l.Address)
	var busy *edge.InUseError
	switch {
	case errors.As(err, &busy) && e.Running != nil && busy.By(e.Running.PID):
		e.ok(check, fmt.Sprintf("held by the running server (pid %d)", e.Running.PID))
	case err == nil:
		err = held.Close()
		if err == nil {
			e.ok(check, "free")
			return
		}
		e.find(Warn, check, err.Error(), "look at the machine's log")
	case busy != nil:
		e.find(Fail, check, "in use by "+busy.Who, "stop what holds it, or listen elsewhere: "+key)
	case errors.Is(err, os.ErrPermission):
		e.find(Fail, check, err.Error(), lowAdvice)
	default:
		e.find(Fail, check, err.Error(), "listen elsewhere: "+key)
	}
}

const lowAdvice = "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit (guado service writes it), a socket unit (guado service --socket), setcap cap_net_bind_service=+ep on the binary, or a port from 1024 on"

// canLow reports whether the running server may take a low port.
func (e *exam) canLow(l config.Listener) bool {
	_, port, _ := net.SplitHostPort(l.Address)
	n, err := strconv.Atoi(port)
	first, errFirst := strconv.Atoi(firstLine("/proc/sys/net/ipv4/ip_unprivileged_port_start"))
	if err == nil && errFirst == nil && n >= first {
		return true
	}
	const bind = 10 // CAP_NET_BIND_SERVICE
	caps, err := strconv.ParseUint(statusField(e.pid(), "CapEff"), 16, 64)
	return err != nil || caps&(1<<bind) != 0
}

// samePort compares what a server tells with what a configuration asks for.
func samePort(url, address string) bool {
	_, told, found := strings.Cut(url, "://")
	if !found {
		return false
	}
	_, a, errA := net.SplitHostPort(told)
	host, b, errB := net.SplitHostPort(address)
	toldHost, _, _ := net.SplitHostPort(told)
	return errA == nil && errB == nil && a == b && (told == address || unspecified(host) && unspecified(toldHost) || host == "localhost")
}

func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func (e *exam) unixSocket(ctx context.Context, check, key string, l config.Listener) {
	if e.Running != nil && slices.Contains(e.Running.Listen, "unix:"+l.Address) {
		e.ok(check, fmt.Sprintf("held by the running server (pid %d)", e.Running.PID))
		return
	}
	if c, err := new(net.Dialer).DialContext(ctx, "unix", l.Address); err == nil {
		_ = c.Close() // it was only tried
		e.find(Fail, check, "another process listens there", "stop it, or listen elsewhere: "+key)
		return
	}
	if strings.HasPrefix(l.Address, "@") {
		e.ok(check, "free")
		return
	}
	e.log(check, l.Address) // what a log file needs of its folder, a socket needs, too
}

// inherited are sockets that somebody else opens.
func (e *exam) inherited(check string, l config.Listener) {
	if e.Running != nil {
		e.ok(check, "held by the running server: "+strings.Join(e.Running.Listen, ", "))
		return
	}
	if l.Network == "systemd" {
		e.ok(check, "systemd opens it: guado service --socket prints the unit")
		return
	}
	e.ok(check, "who starts the server opens it")
}
