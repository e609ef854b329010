package mirror

// undo is what takes a commit back that fails half way. It is used again for the next one, so
// that a commit which is done costs no memory but for what it keeps.
type undo []step

// step puts back one thing, as it was before.
type step struct {
	what  undone
	store *store
	node  *node
	was   node
	below *node
	key   string
	list  *[][]byte
	items [][]byte
	share []*share
	gone  uint64
	token uint64
	bytes int64
}

type undone uint8

const (
	undoNode    undone = iota // node is as it was
	undoAdded                 // node has no such key
	undoDeleted               // node has below at its key again
	undoList
	undoChanges
	undoRoot
	undoAccount
	undoShares
)

func (u *undo) node(n *node) { *u = append(*u, step{what: undoNode, node: n, was: *n}) }

func (u *undo) added(parent *node, key string) {
	*u = append(*u, step{what: undoAdded, node: parent, key: key})
}

func (u *undo) deleted(parent *node, key string, old *node) {
	*u = append(*u, step{what: undoDeleted, node: parent, key: key, below: old})
}

func (u *undo) list(at *[][]byte) { *u = append(*u, step{what: undoList, list: at, items: *at}) }

func (u *undo) changes(s *store) {
	*u = append(*u, step{what: undoChanges, store: s, items: s.changes, gone: s.gone})
}

func (u *undo) root(s *store) { *u = append(*u, step{what: undoRoot, store: s, node: s.root}) }

func (u *undo) shares(s *store) { *u = append(*u, step{what: undoShares, store: s, share: s.shares}) }
func (u *undo) account(s *store) {
	*u = append(*u, step{what: undoAccount, store: s, bytes: s.bytes, token: s.token})
}

// run puts all back, the last first. The account of all stores is m's.
func (u undo) run(m *Mirror) {
	for i := len(u) - 1; i >= 0; i-- {
		switch d := &u[i]; d.what {
		case undoNode:
			*d.node = d.was
		case undoAdded:
			delete(d.node.dict, d.key)
		case undoDeleted:
			d.node.dict[d.key] = d.below
		case undoList:
			*d.list = d.items
		case undoChanges:
			d.store.changes, d.store.gone = d.items, d.gone
		case undoRoot:
			d.store.root = d.node
		case undoShares:
			d.store.shares = d.share
		case undoAccount:
			m.bytes -= d.store.bytes - d.bytes
			d.store.bytes, d.store.token = d.bytes, d.token
		}
	}
}

// mostSteps is how much memory for steps is kept for the next commit.
const mostSteps = 256

// reset forgets all, and what it points at.
func (u *undo) reset() {
	clear(*u)
	*u = (*u)[:0]
	if cap(*u) > mostSteps {
		*u = nil
	}
}
