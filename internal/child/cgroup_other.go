//go:build !linux

package child

func delegated() string { return "" }
