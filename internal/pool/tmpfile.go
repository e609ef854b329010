package pool

import (
	"errors"
	"fmt"
	"os"
)

// removedFile is a file whose name is taken away at once.
func removedFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "guado-spool-*")
	if err != nil {
		return nil, fmt.Errorf("spool file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("spool file: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}
