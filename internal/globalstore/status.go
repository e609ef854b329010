package globalstore

// Status is a store, as operators see it.
type Status struct {
	Leaves   int    `json:"leaves"`
	Bytes    int64  `json:"bytes"`
	Limit    int64  `json:"limit"`
	Updates  uint64 `json:"updates"` // the number of the last one
	Ending   int    `json:"ending"`  // paths that end by themselves
	Expired  uint64 `json:"expired"` // since the start
	Replicas int    `json:"replicas"`
}

// Status tells how the store is now.
func (s *Store) Status() Status {
	s.order.Lock()
	replicas := len(s.replicas)
	s.order.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Status{
		Leaves: s.leaves, Bytes: s.bytes, Limit: s.o.Limits().Store, Updates: s.number,
		Ending: len(s.ends), Expired: s.expired, Replicas: replicas,
	}
}
