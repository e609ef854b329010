package guado

import "time"

// Advance moves the time by which users, connections and pages of a running server live.
func (s *Server) Advance(d time.Duration) {
	s.mu.Lock()
	h := s.host
	s.mu.Unlock()
	h.clock.Advance(d)
}
