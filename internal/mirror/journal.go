package mirror

// What says what was done to a store.
type What uint8

// What is done to stores.
const (
	Whole What = iota + 1 // it is this
	More                  // these records were applied to it
	Ended
)

// Changed is a change of a store. Its records are good until the journal returns.
type Changed struct {
	Ref     Ref
	What    What
	Records []byte
}

// Journal sets who is told of every change of stores: of all that one commit has changed at
// once, in their order, with [Source.Also], and under the mirror's lock, so it must not wait. Call
// it before anybody commits.
func (m *Mirror) Journal(tell func(changed []Changed, also any)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.journal = tell
}

// Rewrite has the journal told of a store as it is now.
func (m *Mirror) Rewrite(ref Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.stores[ref]; s != nil && m.journal != nil {
		m.tellLocked(Changed{Ref: ref, What: Whole, Records: s.snapshot()})
	}
}

// Issue makes generations be higher than this one from now on.
func (m *Mirror) Issue(above uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.issued = max(m.issued, above)
}

func (m *Mirror) tellLocked(c Changed) {
	if m.journal != nil {
		m.journal([]Changed{c}, nil)
	}
}

// tellCommitLocked tells of a commit that was applied.
func (m *Mirror) tellCommitLocked(c *commit, also any) {
	if m.journal == nil {
		return
	}
	m.changed = m.changed[:0]
	for _, b := range c.batches {
		ref := Ref{b.kind, string(b.id)}
		if m.stores[ref] != nil && len(b.records) > 0 {
			m.changed = append(m.changed, Changed{ref, More, b.records})
		}
	}
	if len(m.changed) > 0 || also != nil {
		m.journal(m.changed, also)
	}
}
