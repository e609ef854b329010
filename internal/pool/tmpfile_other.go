//go:build !linux

package pool

import "os"

func unnamedFile(dir string) (*os.File, error) { return removedFile(dir) }
