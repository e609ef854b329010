package edge

import (
	"encoding/hex"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

// Whose child an exchange is, and what its application is told.
func TestATraceGoesOnWhereAProxyIsTrustedAndBeginsElsewhere(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	sampled, unsampled := "00-"+trace+"-"+parent+"-01", "00-"+trace+"-"+parent+"-00"
	for name, c := range map[string]struct {
		oneIn    int
		trusted  bool
		field    string
		recorded bool
		passed   string // the whole of it; empty: one that begins here
		goesOn   bool
		flags    string
	}{
		"nothing is recorded":              {field: "", flags: "01"},
		"nothing is recorded, from proxy":  {trusted: true, field: sampled, passed: sampled, flags: "01"},
		"from a stranger":                  {oneIn: 1, field: sampled, recorded: true, flags: "01"},
		"from a proxy that records":        {oneIn: 1 << 30, trusted: true, field: sampled, recorded: true, goesOn: true, flags: "01"},
		"from a proxy that does not":       {oneIn: 1, trusted: true, field: unsampled, passed: unsampled, flags: "00"},
		"one in many, and not this one":    {oneIn: 1 << 30, flags: "00"},
		"each":                             {oneIn: 1, recorded: true, flags: "01"},
		"from a later version of the form": {oneIn: 1, trusted: true, field: "01-" + trace + "-" + parent + "-01-more", recorded: true, goesOn: true, flags: "01"},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryLane(t, func(t *testing.T, m mode) {
				var seen exchange.Trace
				var told string
				r := serve(t, m, func(x *exchange.Exchange) {
					seen, told = x.Trace, string(x.TraceParent)
					text(x, 200, "")
				}, func(o *Options) {
					o.TraceOneIn = c.oneIn
					if c.trusted {
						o.TrustedProxies, _, _ = ParseTrusted([]string{"127.0.0.1"})
					}
				})
				var fields []string
				if c.field != "" {
					fields = append(fields, "traceparent: "+c.field)
				}
				r.get("/", fields...)
				if !validTrace([]byte(told)) || told[53:55] != c.flags {
					t.Fatalf("the application was told %q, want flags %s", told, c.flags)
				}
				if c.passed != "" && told != c.passed {
					t.Errorf("the application was told %q", told)
				}
				if (told[3:35] == trace) != (c.goesOn || c.passed != "") {
					t.Errorf("the application was told of trace %s", told[3:35])
				}
				if seen.Sampled != c.recorded {
					t.Fatalf("recorded: %v", seen.Sampled)
				}
				if !c.recorded {
					return
				}
				if hex.EncodeToString(seen.ID[:]) != told[3:35] || hex.EncodeToString(seen.Worker[:]) != told[36:52] {
					t.Errorf("recorded as %x below %x, the application was told %s", seen.ID, seen.Worker, told)
				}
				if goesOn := hex.EncodeToString(seen.Parent[:]) == parent; goesOn != c.goesOn || !goesOn && seen.Parent != [8]byte{} {
					t.Errorf("parent %x", seen.Parent)
				}
				if seen.Span == seen.Worker || seen.Span == [8]byte{} {
					t.Errorf("spans %x and %x", seen.Span, seen.Worker)
				}
			})
		})
	}
}

func TestEachExchangeIsObservedOnceAtItsEnd(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		type end struct {
			status int
			in     int64
			timed  bool
		}
		ends := make(chan end, 10)
		r := serve(t, m, func(x *exchange.Exchange) { text(x, 201, "made") }, func(o *Options) {
			o.Observe = func(x *exchange.Exchange, out exchange.Outcome) {
				ends <- end{out.Status, out.BytesOut, !out.At.Before(x.Received) && !x.Received.IsZero()}
			}
		})
		r.get("/")
		r.get("/..%2f") // refused before the road
		for _, want := range []int{201, 400} {
			if got := <-ends; got.status != want || !got.timed || got.in == 0 {
				t.Errorf("%+v, want %d", got, want)
			}
		}
		if len(ends) != 0 {
			t.Errorf("%d more", len(ends))
		}
		if n := r.Accepted(); n == 0 {
			t.Error("no connection was counted")
		}
	})
}
