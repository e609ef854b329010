package edge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/guado-server/guado/internal/edge/lane"
)

// readProxyHeader reads the PROXY protocol header, which says who the client of the
// proxy is. Only listed proxies may say it; what they say replaces the addresses.
// named is false when the proxy does not know its client: then nobody vouches for
// what the connection says of itself.
func (s *Server) readProxyHeader(c net.Conn, info *lane.Conn) (named bool, err error) {
	if !s.now.Load().prepare.trusts(info) {
		return false, errors.New("PROXY protocol: the peer is not a trusted proxy")
	}
	header, err := takeProxyHeader(c, s.now.Load().options.ProxyTimeout)
	if err != nil {
		return false, fmt.Errorf("PROXY protocol: %w", err)
	}
	if header.Command.IsLocal() {
		// Version 2: the proxy's own health check, it speaks for itself. Version 1 has no
		// such thing; there it stands for UNKNOWN.
		return header.Version == 2, nil
	}
	source, named := header.SourceAddr.(*net.TCPAddr)
	if named {
		// It came to the proxy over TCP, whatever the proxy used to reach us.
		info.Peer, info.Unix = unmap(source.AddrPort()), false
	}
	if a, ok := header.DestinationAddr.(*net.TCPAddr); ok {
		local := unmap(a.AddrPort())
		info.LocalName, info.LocalPort = local.Addr().String(), local.Port()
	}
	return named, nil
}

const (
	proxyV1Max    = 107     // with its line end
	proxyV2Prefix = 16      // signature, version, family, length
	proxyV2Max    = 4 << 10 // TLVs included; the protocol allows 64 KiB, nobody sends it
)

// takeProxyHeader takes exactly the header out of the socket: what follows is for TLS
// or a lane.
func takeProxyHeader(c net.Conn, timeout time.Duration) (*proxyproto.Header, error) {
	deadline := time.Now().Add(timeout)
	size := 0
	err := peek(c, proxyV1Max, timeout, func(b []byte) bool {
		size = proxyHeaderSize(b)
		return size != 0
	})
	if err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, proxyproto.ErrNoProxyProtocol
	}
	header := make([]byte, size)
	if err := c.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, header); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), size))
}

// proxyHeaderSize tells how long the header is that begins with b: 0 not yet known,
// -1 it is none.
func proxyHeaderSize(b []byte) int {
	v1, v2 := proxyproto.SIGV1, proxyproto.SIGV2
	switch {
	case bytes.HasPrefix(b, v2):
		if len(b) < proxyV2Prefix {
			return 0
		}
		size := proxyV2Prefix + int(binary.BigEndian.Uint16(b[proxyV2Prefix-2:]))
		if size > proxyV2Max {
			return -1
		}
		return size
	case bytes.HasPrefix(b, v1):
		return bytes.IndexByte(b, '\n') + 1
	case bytes.HasPrefix(v1, b), bytes.HasPrefix(v2, b):
		return 0
	}
	return -1
}
