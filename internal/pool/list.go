package pool

// list is a doubly linked list of flights. A flight is in one list at a time: the
// queue, those waiting for the first worker, or those of a worker.
type list struct {
	first, last *flight
	n           int
}

func (l *list) pushBack(f *flight) {
	f.prev, f.next = l.last, nil
	if l.last != nil {
		l.last.next = f
	} else {
		l.first = f
	}
	l.last = f
	l.n++
}

func (l *list) pushFront(f *flight) {
	f.prev, f.next = nil, l.first
	if l.first != nil {
		l.first.prev = f
	} else {
		l.last = f
	}
	l.first = f
	l.n++
}

func (l *list) remove(f *flight) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.first = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.last = f.prev
	}
	f.prev, f.next = nil, nil
	l.n--
}
