package link

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the control socket, protocol/link.md section 6.
const (
	maxUnclaimed = 64
	maxAnnounced = 4096 // FILE frames that wait for their descriptors
	maxParked    = 5 * time.Second
	maxAhead     = time.Second // for which more than maxUnclaimed wait for their frames
)

// files brings FILE frames and their descriptors together: the frames come through
// the ring, the descriptors over the control socket, in no mutual order.
// Lock order: Stream.mu, then files.mu.
type files struct {
	l *Link

	mu        sync.Mutex // guards below
	unclaimed []descriptor
	parked    []parkedFile
	timer     *time.Timer // runs while something is parked
	closed    bool

	claimed chan struct{} // room for one: a descriptor found its frame or its end
	kept    atomic.Int32  // unclaimed and parked; lets a stream's end skip mu
}

type descriptor struct {
	stream, sequence uint32
	file             *os.File
}

type parkedFile struct {
	stream, sequence uint32
	since            time.Time
}

// claim gives the descriptor of a FILE frame, or notes that the frame waits for it.
func (f *files) claim(stream, sequence uint32) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, d := range f.unclaimed {
		if d.stream == stream && d.sequence == sequence {
			f.unclaimed = append(f.unclaimed[:i], f.unclaimed[i+1:]...)
			f.kept.Add(-1)
			f.tellClaimed()
			return d.file, nil
		}
	}
	if f.closed {
		return nil, ErrClosed
	}
	if len(f.parked) >= maxAnnounced {
		return nil, corrupt("%d FILE frames without a descriptor", len(f.parked))
	}
	for _, p := range f.parked {
		if p.stream == stream && p.sequence == sequence {
			return nil, corrupt("FILE %d twice on stream 0x%08x", sequence, stream)
		}
	}
	f.parked = append(f.parked, parkedFile{stream, sequence, time.Now()})
	f.kept.Add(1)
	if f.timer == nil {
		f.timer = time.AfterFunc(maxParked, f.expire)
	} else if len(f.parked) == 1 {
		f.timer.Reset(maxParked)
	}
	return nil, nil
}

// arrived takes a descriptor from the control socket. It keeps file or closes it.
func (f *files) arrived(stream, sequence uint32, file *os.File) error {
	s, err := f.l.table.find(stream)
	if err != nil {
		f.l.closeFile(file)
		return err
	}
	f.mu.Lock()
	for i, p := range f.parked {
		if p.stream == stream && p.sequence == sequence {
			f.parked = append(f.parked[:i], f.parked[i+1:]...)
			f.kept.Add(-1)
			f.mu.Unlock()
			s.fileArrived(stream, sequence, file)
			return nil
		}
	}
	// Counted before the id is looked at: a stream that ends now either shows it here
	// or finds the count and forgets the descriptor.
	f.kept.Add(1)
	if f.closed || s == nil || s.id.Load() != stream {
		f.kept.Add(-1)
		f.mu.Unlock()
		f.l.closeFile(file)
		return nil
	}
	f.unclaimed = append(f.unclaimed, descriptor{stream, sequence, file})
	n := len(f.unclaimed)
	f.mu.Unlock()
	if n > maxUnclaimed {
		return f.awaitClaims()
	}
	return nil
}

// awaitClaims holds up the control socket, and so the worker's senders, until frames
// have claimed what is too much: under load the reader may be behind by more than
// that, which is not the worker's fault.
func (f *files) awaitClaims() error {
	timeout := time.NewTimer(maxAhead)
	defer timeout.Stop()
	for {
		f.mu.Lock()
		n := len(f.unclaimed)
		f.mu.Unlock()
		if n <= maxUnclaimed {
			return nil
		}
		select {
		case <-f.claimed:
		case <-f.l.done:
			return nil
		case <-timeout.C:
			return corrupt("%d descriptors that no FILE names", n)
		}
	}
}

func (f *files) tellClaimed() {
	select {
	case f.claimed <- struct{}{}:
	default:
	}
}

// forget drops what is left of a stream that has ended.
func (f *files) forget(stream uint32) {
	if f.kept.Load() == 0 {
		return
	}
	var drop []*os.File
	f.mu.Lock()
	keep := f.unclaimed[:0]
	for _, d := range f.unclaimed {
		if d.stream == stream {
			drop = append(drop, d.file)
		} else {
			keep = append(keep, d)
		}
	}
	f.unclaimed = keep
	parked := f.parked[:0]
	for _, p := range f.parked {
		if p.stream != stream {
			parked = append(parked, p)
		}
	}
	f.parked = parked
	f.kept.Store(int32(len(keep) + len(parked)))
	f.tellClaimed()
	f.mu.Unlock()
	for _, file := range drop {
		f.l.closeFile(file)
	}
}

// expire condemns a worker that announced a file and did not send it.
func (f *files) expire() {
	f.mu.Lock()
	if f.closed || len(f.parked) == 0 {
		f.mu.Unlock()
		return
	}
	oldest := f.parked[0]
	left := maxParked - time.Since(oldest.since)
	if left > 0 {
		f.timer.Reset(left)
	}
	f.mu.Unlock()
	if left <= 0 {
		f.l.condemn(corrupt("no descriptor for FILE %d of stream 0x%08x in %v", oldest.sequence, oldest.stream, maxParked))
	}
}

// close drops everything. Whoever comes later is refused.
func (f *files) close() {
	f.mu.Lock()
	f.closed = true
	drop := f.unclaimed
	f.unclaimed, f.parked = nil, nil
	f.kept.Store(0)
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	for _, d := range drop {
		f.l.closeFile(d.file)
	}
}

// fileArrived completes a parked FILE frame.
func (s *Stream) fileArrived(id, sequence uint32, file *os.File) {
	s.mu.Lock()
	var b Bell
	if s.id.Load() == id && !s.dropping {
		for i := range s.in.recs {
			if r := &s.in.recs[i]; r.parked && r.arg == sequence {
				r.file, r.parked, file = file, false, nil
				s.rung, b = true, s.bell
				break
			}
		}
	}
	if file != nil {
		s.litter = append(s.litter, file)
	}
	s.unlock()
	if b != nil {
		b.Ring()
	}
}
