package push

import (
	"fmt"
	"strconv"

	"github.com/guado-server/guado/internal/statefile"
)

// Save writes all sessions into a file, at once and whole or not at all. It is the last
// thing before the end: clients are let go, and nothing is pushed any more.
func (h *Hub) Save(path string) error {
	h.Freeze()
	all := h.Sessions()
	err := stateFile.Write(path, len(all), func(yield func(any) bool) {
		for _, s := range all {
			if !yield(s.freeze()) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("save push sessions to %s: %w", path, err)
	}
	return nil
}

// Copy writes all sessions into a file as [Session.Describe] gives them, while they are in use:
// where it is read, each begins a new stream.
func (h *Hub) Copy(path string) error {
	var all []*savedSession
	for _, s := range h.Sessions() {
		data, err := s.Describe()
		if err != nil {
			return err
		}
		v, err := readSession(data)
		if err != nil {
			return err
		}
		v.Epoch = epochText(h.newEpoch())
		all = append(all, v)
	}
	err := stateFile.Write(path, len(all), func(yield func(any) bool) {
		for _, v := range all {
			if !yield(v) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("copy push sessions to %s: %w", path, err)
	}
	return nil
}

// Restore takes the sessions of a file and removes it, before any of them is used: a
// file that was read once is older than what clients are told from then on, and read
// again after a crash it would give the same numbers to other frames. No file is no
// error. One that is damaged is put aside; sessions of which it is whole are given all the same.
func (h *Hub) Restore(path string) ([]*Session, error) {
	var saved []*savedSession
	err := stateFile.Take(path, func(line []byte) error {
		v, err := readSession(line)
		if err == nil {
			saved = append(saved, v)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("restore push sessions: %w; pages whose session is gone begin anew", err)
	}
	if !statefile.Lossy(err) {
		return nil, err
	}
	all := make([]*Session, 0, len(saved))
	for _, v := range saved {
		s, failed := h.revive(v)
		if failed != nil {
			return all, failed
		}
		all = append(all, s)
	}
	return all, err
}

// Load takes a session back that [Session.Describe] gave. Its stream goes on only when the hub
// was frozen then: a client may have been sent more since, so it begins anew, by another epoch.
func (h *Hub) Load(data []byte, frozen bool) (*Session, error) {
	v, err := readSession(data)
	if err != nil {
		return nil, err
	}
	if frozen {
		return h.revive(v)
	}
	before := v.Epoch
	v.Epoch = epochText(h.newEpoch())
	s, err := h.revive(v)
	if err == nil {
		s.mu.Lock()
		s.before, _ = strconv.ParseUint(before, 16, 64) // check has seen it
		s.known = &settled{}
		s.mu.Unlock()
	}
	return s, err
}

func (h *Hub) revive(v *savedSession) (*Session, error) {
	s := h.session(v)
	if _, err := h.enter(s); err != nil {
		return nil, fmt.Errorf("restore page %q: %w", v.Page, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := h.wheel.clock()
	s.planLocked(sooner(now+ticks(s.lifeLocked()), s.expiryLocked(now)))
	return s, nil
}
