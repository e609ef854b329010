package mirror

// StoreBytes is what one store costs in the account; 0: it is empty, or there is none.
func (m *Mirror) StoreBytes(ref Ref) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.stores[ref]; s != nil {
		return s.bytes
	}
	return 0
}
