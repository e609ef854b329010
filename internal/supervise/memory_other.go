//go:build !linux

package supervise

// residentMemory cannot be asked of another process here without its tools: limits of
// memory do nothing.
func residentMemory(int) int64 { return 0 }
