//go:build guado_faults

package mirror

import "os"

// skipSequence takes commits whatever their number.
var skipSequence = os.Getenv("GUADO_FAULT") == "sequence"
