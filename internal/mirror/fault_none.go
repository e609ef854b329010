//go:build !guado_faults

package mirror

// skipSequence is off: only a build with the tag guado_faults can switch a guarantee off, so
// that test/chaos/kill can see its own checks fail.
const skipSequence = false
