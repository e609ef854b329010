package compress

import (
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestAcceptEncodingIsReadAsRFC9110SaysIt(t *testing.T) {
	offered := []*coding{codings["zstd"], codings["gzip"]}
	for accept, want := range map[string]string{
		"gzip": "gzip", "x-gzip": "gzip", "gzip, zstd": "zstd", "zstd;q=0.5, gzip;q=0.9": "gzip", "zstd;q=0.9, gzip;q=0.900": "zstd",
		"*": "zstd", "*;q=0": "", "zstd;q=0, *;q=0.1": "gzip", "gzip;q=0.001": "gzip", "gzip;q=1.000": "gzip", "gzip; q=0.5": "gzip",
		"gzip;q=0.0": "", "gzip;q=0.0001": "", "gzip;q=2": "", "gzip;q=": "", "gzip;q=.5": "", "gzip;level=9": "", "gzipped": "",
		"identity": "", "identity;q=0.5, gzip": "gzip", "gzip;q=0.5, identity": "", "": "", ",,": "", ";q=1": "",
	} {
		x := exchange.New()
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("accept-encoding"), Value: []byte(accept)})
		got := ""
		if k := choose(x, offered); k != nil {
			got = k.name
		}
		if got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
	if choose(exchange.New(), offered) != nil {
		t.Error("a client that says nothing gets a coding")
	}
	// Several lines are one list.
	x := exchange.New()
	for _, v := range []string{"br", "gzip"} {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("Accept-Encoding"), Value: []byte(v)})
	}
	if k := choose(x, offered); k == nil || k.name != "gzip" {
		t.Errorf("two lines: %v", k)
	}
}

func FuzzAcceptEncoding(f *testing.F) {
	f.Add("gzip;q=0.5, *;q=0, zstd")
	f.Fuzz(func(t *testing.T, accept string) {
		x := exchange.New()
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("accept-encoding"), Value: []byte(accept)})
		for _, name := range []string{"gzip", "zstd", "identity"} {
			if w := weightOf(x, name); w < 0 || w > 1000 {
				t.Errorf("%q: weight %d of %s", accept, w, name)
			}
		}
		choose(x, []*coding{codings["zstd"], codings["gzip"]})
	})
}
