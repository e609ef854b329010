package push

// tail is what a client has not acknowledged, oldest first. Its zero value is empty and
// holds no memory: an idle session pays nothing for it.
type tail struct {
	entries []entry
	bytes   int
}

type entry struct {
	Payload
	since tick
}

// entryCost is the memory of an entry beside its bytes, which sessions may share.
const entryCost = 32

func (t *tail) add(p Payload, now tick) {
	t.entries = append(t.entries, entry{p, now})
	t.bytes += p.Len() + entryCost
}

// drop takes n entries from the front.
func (t *tail) drop(n int) {
	for i := range t.entries[:n] {
		t.bytes -= t.entries[i].Len() + entryCost
	}
	if n == len(t.entries) {
		t.entries = nil
		return
	}
	// Moved down once half is gone, so that a long life does not grow the slice.
	clear(t.entries[:n])
	t.entries = t.entries[n:]
	if cap(t.entries) > 2*len(t.entries)+16 {
		t.entries = append(make([]entry, 0, len(t.entries)+8), t.entries...)
	}
}

// over tells how many entries of the front pass the limits. The newest stays, whatever
// its length: a message must be able to reach a client that is there in a moment.
func (t *tail) over(most int, oldest tick) int {
	n, bytes := 0, t.bytes
	for n < len(t.entries) {
		e := &t.entries[n]
		if e.since >= oldest && (bytes <= most || n == len(t.entries)-1) {
			break
		}
		bytes -= e.Len() + entryCost
		n++
	}
	return n
}
