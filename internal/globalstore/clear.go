package globalstore

// Clear deletes all that there is.
func (s *Store) Clear() {
	s.mu.RLock()
	tops := s.root.children()
	keys := make([]string, 0, len(tops))
	for _, n := range tops {
		keys = append(keys, n.key)
	}
	s.mu.RUnlock()
	for _, key := range keys {
		_, _, _ = s.Delete(Path{key}) // it is closed: then nobody reads it
	}
}
