package mirror

// Refs names all stores.
func (m *Mirror) Refs() []Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	refs := make([]Ref, 0, len(m.stores))
	for ref := range m.stores {
		refs = append(refs, ref)
	}
	return refs
}
