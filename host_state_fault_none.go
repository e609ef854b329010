//go:build !guado_faults

package guado

// mirrorLate is off: see internal/mirror/fault_none.go.
const mirrorLate = false

func (*keeper) applyLate([]byte) []byte { return nil }
