package identity

import (
	"net/netip"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
)

// What an operator sees of a browser is there again behind a crash, too: the log has it.
func TestWhatTheLogHasOfAConnectionNamesAddressAndBrowser(t *testing.T) {
	s := open(t, Options{})
	b := newBrowser(t, s)
	b.change = func(x *exchange.Exchange) {
		x.Client = netip.MustParseAddrPort("192.0.2.7:4711")
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("user-agent"), Value: []byte("Firefox")})
	}
	c := b.logsIn("ann")
	before, _ := s.Find(c.ID)
	var all [][]byte
	for kind, id := range map[item.Kind]string{item.Connection: c.ID, item.User: "ann"} {
		data, there := s.Describe(kind, id)
		if !there {
			t.Fatalf("nothing of %s", id)
		}
		all = append(all, data)
	}
	again := open(t, Options{})
	if lost := again.Load(all, time.Time{}); lost > 0 {
		t.Errorf("%d are lost", lost)
	}
	after, _ := again.Find(c.ID)
	if after.Address != before.Address || after.Agent != before.Agent || !after.Address.IsValid() || after.Agent != "Firefox" {
		t.Errorf("before %v %v, after %v %v", before.Address, before.Agent, after.Address, after.Agent)
	}
}
