// Package address tells whose a request is by the client's address: sets of networks,
// and the network that counts as one client.
// Before it: edge, which has found the client behind trusted proxies. After it: the steps
// that let in, refuse or count by address.
// Not here: what is done with the answer; reading of addresses from text (config).
package address

import (
	"net/netip"

	"github.com/guado-server/guado/internal/exchange"
)

// Set is a number of networks; Unix adds the clients of which nothing is known but that
// they came over a Unix socket. The zero Set is empty.
type Set struct {
	Networks []netip.Prefix
	Unix     bool
}

// Empty reports whether nobody is in the set.
func (s *Set) Empty() bool { return len(s.Networks) == 0 && !s.Unix }

// Has reports whether the client of x is in the set.
func (s *Set) Has(x *exchange.Exchange) bool {
	if s.Empty() {
		return false
	}
	client, ok := Client(x)
	if !ok {
		return s.Unix
	}
	for i := range s.Networks {
		if s.Networks[i].Contains(client) {
			return true
		}
	}
	return false
}

// Client is the address of the client of x, without a zone, which no network has. false:
// it came over a Unix socket, and no trusted proxy has named it.
func Client(x *exchange.Exchange) (netip.Addr, bool) {
	client := x.Client.Addr()
	if client.Is4() {
		return client, true
	}
	return client.Unmap().WithZone(""), client.IsValid()
}

// homeBits is how much of an IPv6 address tells one customer of a provider from another;
// within it a client can pick addresses as it likes.
const homeBits = 64

// Home is the network that counts as one client: an IPv4 address, or the /64 of an IPv6
// address.
func Home(client netip.Addr) netip.Addr {
	if client.Is4() {
		return client
	}
	home, err := client.Prefix(homeBits)
	if err != nil {
		return client // an address without a family is none
	}
	return home.Addr()
}
