//go:build guado_faults

package guado

import (
	"bytes"
	"os"
	"time"
)

// mirrorLate lets answers leave first, and what they rest on come to the host later.
var mirrorLate = os.Getenv("GUADO_FAULT") == "late"

// lateBy is longer than a worker takes to start again.
const lateBy = 3 * time.Second

func (k *keeper) applyLate(state []byte) (noEffects []byte) {
	state = bytes.Clone(state)
	time.AfterFunc(lateBy, func() {
		k.stores.mu.Lock() // one after the other, nearly in order: it is broken anyway
		defer k.stores.mu.Unlock()
		_, _ = k.stores.mirror.ApplyFront(&k.source, state)
	})
	return make([]byte, 4)
}
