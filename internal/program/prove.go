package program

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Prove waits until what was started of these programs has shown that it can be: it is
// ready, or has ended well as a once program does; a scheduled one has nothing to show
// before its time. Its error names those that could not be started, and those that are
// not ready after patience, which once programs have without end.
func (s *Set) Prove(ctx context.Context, names []string, patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	over := false
	for {
		s.mu.Lock()
		open, err := s.unproven(names, over)
		changed := s.changed
		s.mu.Unlock()
		if err != nil || !open {
			return err
		}
		select {
		case <-changed:
		case <-late.C:
			over = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unproven reports whether one of the programs is still on its way. s.mu is held.
func (s *Set) unproven(names []string, over bool) (open bool, err error) {
	var errs []error
	for _, i := range s.list {
		if !slices.Contains(names, i.spec.Program) {
			continue
		}
		switch proven, err := i.proof(); {
		case err != nil:
			errs = append(errs, err)
		case proven:
		case !over || i.spec.Once && i.state == Running:
			open = true
		case i.state == Held:
			errs = append(errs, fmt.Errorf("program %s waits for %s", i.spec.Name, strings.Join(s.missing(i.spec.After), ", ")))
		default:
			errs = append(errs, fmt.Errorf("program %s is not ready yet", i.spec.Name))
		}
	}
	return open, errors.Join(errs...)
}

// proof reports whether the program is as it is to be; its error is why it cannot be
// started. Set.mu is held.
func (i *instance) proof() (bool, error) {
	switch {
	case i.satisfies(), i.spec.Schedule != nil, !i.on && i.starts == 0:
		return true, nil
	case i.state == Waiting, i.state == Frozen, i.state == Done && !i.good:
		return false, fmt.Errorf("program %s could not be started: %s", i.spec.Name, i.problem)
	case !i.on && (i.state == Done || i.state == Stopped): // it has ended well, or somebody has stopped it
		return true, nil
	}
	return false, nil
}
