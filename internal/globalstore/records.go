package globalstore

import "encoding/binary"

// Records of protocol/store.md, section 3: those that updates are made of.
const (
	opSet    = 1
	opClear  = 2
	opDelete = 3
)

// What a message of protocol/link.md, section 15 is.
const (
	updateKind   = 0
	snapshotKind = 1
)

// head begins a message: the number of the last update that is in it, and what it is.
func head(kind byte, number uint64) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, number), kind, 0, 0, 0, 0, 0, 0, 0)
}

func appendPath(out []byte, p Path) []byte {
	out = append(out, byte(len(p)))
	for _, key := range p {
		out = append(binary.LittleEndian.AppendUint16(out, uint16(len(key))), key...)
	}
	return out
}

// records make a node out of whatever is at its path.
func (n *node) records(out []byte, p Path) []byte {
	if !n.isDict() {
		out = appendPath(append(out, opSet), p)
		return append(binary.LittleEndian.AppendUint32(out, uint32(len(n.leaf))), n.leaf...)
	}
	out = appendPath(append(out, opClear), p)
	return n.recordsBelow(out, p)
}

func (n *node) recordsBelow(out []byte, p Path) []byte {
	for _, c := range n.children() {
		out = c.records(out, append(p[:len(p):len(p)], c.key))
	}
	return out
}

// snapshotLocked makes all that there is out of nothing.
func (s *Store) snapshotLocked() []byte {
	return s.root.recordsBelow(head(snapshotKind, s.number), nil)
}
