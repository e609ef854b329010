package edge

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/guado-server/guado/internal/exchange"
)

// joinTrace goes on with the trace of a trusted proxy. Where the host records it, the
// application's parent is the worker's span; otherwise it is the proxy's.
func (p *preparer) joinTrace(x *exchange.Exchange, parent []byte) {
	x.TraceParent = parent
	var flags [1]byte
	if _, err := hex.Decode(flags[:], parent[53:55]); err != nil || p.oneIn == 0 || flags[0]&1 == 0 {
		return
	}
	t := &x.Trace
	copyHex(t.ID[:], parent[3:35])
	copyHex(t.Parent[:], parent[36:52])
	t.Sampled = true
	random(t.Span[:])
	random(t.Worker[:])
	writeTrace(x, t.ID[:], t.Worker[:], "-01")
}

// copyHex decodes what validTrace has checked.
func copyHex(dst, src []byte) {
	if _, err := hex.Decode(dst, src); err != nil {
		clear(dst)
	}
}

// beginTrace begins a trace, recorded by the host or not. Where the host records none at
// all it is marked as sampled: tracers in applications follow their parent by default,
// and one that says "not sampled" would switch them off. Where the host chooses, the
// choice is the whole trace's.
func (p *preparer) beginTrace(x *exchange.Exchange) {
	var id [16]byte
	var span [8]byte
	random(id[:])
	random(span[:])
	flags := "-01"
	switch {
	case p.oneIn == 0:
	case binary.LittleEndian.Uint64(id[8:])%uint64(p.oneIn) == 0:
		x.Trace = exchange.Trace{ID: id, Worker: span, Sampled: true}
		random(x.Trace.Span[:])
	default:
		flags = "-00"
	}
	writeTrace(x, id[:], span[:], flags)
}

// random fills ids, of which none may be all zero.
func random(b []byte) {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], max(rand.Uint64(), 1))
	}
}

// writeTrace makes a traceparent in memory of the exchange.
func writeTrace(x *exchange.Exchange, id, span []byte, flags string) {
	from := len(x.Scratch)
	x.Scratch = append(x.Scratch, "00-"...)
	x.Scratch = hex.AppendEncode(x.Scratch, id)
	x.Scratch = append(x.Scratch, '-')
	x.Scratch = hex.AppendEncode(x.Scratch, span)
	x.Scratch = append(x.Scratch, flags...)
	x.TraceParent = x.Scratch[from:len(x.Scratch):len(x.Scratch)]
}
