package program

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	// ErrUnknown is the error about a name that no program has.
	ErrUnknown = errors.New("no such program")
	// ErrNotRunning is the error about a program that has no process.
	ErrNotRunning = errors.New("program does not run")
	// ErrStopping is the error of an order that comes while the host stops.
	ErrStopping = errors.New("the host is stopping")
)

// find gives the instances that a name means: one, or all of a program.
func (s *Set) find(name string) ([]*instance, error) {
	var list []*instance
	all := s.all()
	for _, i := range all {
		if i.spec.Name == name || i.spec.Program == name {
			list = append(list, i)
		}
	}
	if list == nil {
		names := make([]string, len(all))
		for n, i := range all {
			names[n] = i.spec.Name
		}
		return nil, fmt.Errorf("%w: %q; there are: %s", ErrUnknown, name, strings.Join(names, ", "))
	}
	return list, nil
}

// StartProgram starts a program that does not run, a frozen one too, and waits until
// it is ready, or has run to its end when it is a once program. It is an error when that
// cannot come to be: it failed, or is held. One that waits for its next time runs now,
// and is not waited for.
func (s *Set) StartProgram(ctx context.Context, name string) error {
	return s.order(ctx, name, func(i *instance) {
		i.on, i.now = true, i.now || !i.state.live()
		i.failures, i.quick = 0, 0
		i.resume = time.Time{}
	})
}

// RestartProgram ends a program's process in order and starts it anew, and waits as
// StartProgram does.
func (s *Set) RestartProgram(ctx context.Context, name string) error {
	return s.order(ctx, name, func(i *instance) {
		i.on, i.again, i.now = true, i.state.live(), true
		i.failures, i.quick = 0, 0
		i.resume = time.Time{}
	})
}

// StopProgram ends a program and waits until it is gone. What comes after it goes on.
func (s *Set) StopProgram(ctx context.Context, name string) error {
	list, err := s.find(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, i := range list {
		i.on, i.again, i.over = false, false, true
		i.wake()
	}
	s.mu.Unlock()
	return s.until(ctx, func() bool {
		for _, i := range list {
			if i.state != Stopped {
				return false
			}
		}
		return true
	})
}

// Signal sends a signal to a program's process, or to its whole group.
func (s *Set) Signal(name string, sig syscall.Signal, group bool) error {
	list, err := s.find(name)
	if err != nil {
		return err
	}
	sent := false
	for _, i := range list {
		s.mu.Lock()
		p := i.process
		s.mu.Unlock()
		if p != nil {
			p.signal(sig, group)
			sent = true
		}
	}
	if !sent {
		return fmt.Errorf("%w: %q", ErrNotRunning, name)
	}
	return nil
}

// Reopen opens log files anew, for rotation by another program.
func (s *Set) Reopen() error {
	var errs []error
	s.mu.Lock()
	files := slices.Collect(maps.Values(s.files))
	s.mu.Unlock()
	for _, f := range files {
		if err := f.reopen(); err != nil {
			errs = append(errs, fmt.Errorf("log file %q: %w", f.path, err))
		}
	}
	return errors.Join(errs...)
}

// order changes what is wanted of a program and waits for what comes of it.
func (s *Set) order(ctx context.Context, name string, change func(*instance)) error {
	list, err := s.find(name)
	if err != nil {
		return err
	}
	starts := make([]int, len(list))
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return ErrStopping
	}
	for n, i := range list {
		starts[n] = i.starts
		if !i.state.live() {
			starts[n]++
		}
		change(i)
		if i.again {
			starts[n]++
		}
		i.wake()
	}
	s.mu.Unlock()
	err = s.until(ctx, func() bool {
		for n, i := range list {
			under := i.state == Starting || i.state == Stopping || i.spec.Once && i.state == Running
			if under || i.starts < starts[n] && i.state != Held {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return s.verdict(list)
}

// verdict is the error of an order that did not lead to a program that runs or has
// ended well.
func (s *Set) verdict(list []*instance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, i := range list {
		switch i.state {
		case Waiting, Frozen:
			errs = append(errs, fmt.Errorf("%s could not be started: %s", i.spec.Name, i.problem))
		case Held:
			errs = append(errs, fmt.Errorf("%s waits for %s", i.spec.Name, strings.Join(s.missing(i.spec.After), ", ")))
		case Done:
			if last := i.last; last != nil && (last.Signal != "" || !slices.Contains(i.spec.ExitCodes, last.Code)) {
				errs = append(errs, fmt.Errorf("%s has failed: %s", i.spec.Name, last))
			}
		case Stopped:
			errs = append(errs, fmt.Errorf("%s was stopped meanwhile", i.spec.Name))
		default:
		}
	}
	return errors.Join(errs...)
}

// until waits for a state of the programs. is is called with s.mu held.
func (s *Set) until(ctx context.Context, is func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := is(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
