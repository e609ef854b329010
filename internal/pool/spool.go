package pool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/guado-server/guado/internal/exchange"
)

// Bodies are held in memory in chunks; a body known to be short gets a small one.
const (
	chunkSize = 64 << 10
	smallSize = 16 << 10
)

var (
	errSpoolFull = errors.New("the spool for request bodies is full")
	chunks       = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}
	smallChunks  = sync.Pool{New: func() any { b := make([]byte, smallSize); return &b }}
)

// SpoolOptions bound the bodies that are collected before a thread is taken.
type SpoolOptions struct {
	Each   int64  // memory for one body; what is longer goes to disk whole
	Memory int64  // memory for all bodies together
	Disk   int64  // disk for all bodies together; over it 503
	Dir    string // folder of the files, which have no name there; empty: the system's
}

// Spool is the room for request bodies, shared by all pools of a host.
type Spool struct {
	opts   atomic.Pointer[SpoolOptions]
	memory atomic.Int64
	disk   atomic.Int64
	files  atomic.Int64
}

// NewSpool makes the room.
func NewSpool(o SpoolOptions) *Spool {
	s := &Spool{}
	s.opts.Store(&o)
	return s
}

// SpoolStatus is what the spool holds now.
type SpoolStatus struct {
	Memory int64 `json:"memory"`
	Disk   int64 `json:"disk"`
	Files  int64 `json:"files"`
}

// Status tells what the spool holds now.
func (s *Spool) Status() SpoolStatus {
	return SpoolStatus{Memory: s.memory.Load(), Disk: s.disk.Load(), Files: s.files.Load()}
}

// held is a request body that the host has whole, in memory or in a file. It can be
// read again from the start, for a request that is sent to another worker.
type held struct {
	spool  *Spool
	chunks []*[]byte // full ones, the last up to size
	memory int64     // accounted in memory
	file   *os.File
	size   int64
	disk   int64 // accounted on disk
}

// collect reads body to its end; length is -1 when it is not known. On failure
// nothing is held.
func (h *held) collect(s *Spool, body exchange.Body, length int64) error {
	h.spool = s
	err := h.fill(body, length)
	if err != nil {
		h.drop()
	}
	return err
}

func (h *held) fill(body exchange.Body, length int64) error {
	if 0 <= length && length <= smallSize && h.take(smallSize) {
		h.chunks = append(h.chunks, smallChunks.Get().(*[]byte))
	}
	for h.size != length {
		if h.file == nil && h.size == int64(len(h.chunks))*chunkSize && !h.grow() {
			if err := h.spill(); err != nil {
				return err
			}
		}
		var n int
		var err error
		if h.file != nil {
			n, err = h.readToFile(body)
		} else {
			at := int(h.size % chunkSize)
			n, err = body.Read((*h.chunks[len(h.chunks)-1])[at:])
		}
		h.size += int64(n)
		if err == io.EOF { //nolint:errorlint // Body gives the sentinel itself
			if length >= 0 && h.size != length {
				return fmt.Errorf("%w: %d of %d bytes", exchange.ErrMalformedBody, h.size, length)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// grow takes one more chunk of memory, if this body and all together may have it.
func (h *held) grow() bool {
	if h.size+chunkSize > max(h.spool.opts.Load().Each, chunkSize) || !h.take(chunkSize) {
		return false
	}
	h.chunks = append(h.chunks, chunks.Get().(*[]byte))
	return true
}

func (h *held) take(n int64) bool {
	if h.spool.memory.Add(n) > h.spool.opts.Load().Memory {
		h.spool.memory.Add(-n)
		return false
	}
	h.memory += n
	return true
}

// spill moves what is in memory to a file.
func (h *held) spill() error {
	f, err := unnamedFile(h.spool.opts.Load().Dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errSpoolFull, err)
	}
	h.file = f
	h.spool.files.Add(1)
	for at := int64(0); at < h.size; at += chunkSize {
		part := (*h.chunks[at/chunkSize])[:min(chunkSize, h.size-at)]
		if err := h.write(part, at); err != nil {
			return err
		}
	}
	h.dropMemory()
	return nil
}

func (h *held) readToFile(body exchange.Body) (int, error) {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	n, err := body.Read(*buf)
	if n > 0 {
		if werr := h.write((*buf)[:n], h.size); werr != nil {
			return 0, werr
		}
	}
	return n, err
}

func (h *held) write(p []byte, at int64) error {
	n := int64(len(p))
	if h.spool.disk.Add(n) > h.spool.opts.Load().Disk {
		h.spool.disk.Add(-n)
		return fmt.Errorf("%w: %d bytes of disk are taken", errSpoolFull, h.spool.opts.Load().Disk)
	}
	h.disk += n
	if _, err := h.file.WriteAt(p, at); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return fmt.Errorf("%w: %w", errSpoolFull, err)
		}
		return fmt.Errorf("spool file: %w", err)
	}
	return nil
}

// first gives the first chunk of a body in memory.
func (h *held) first() []byte {
	c := *h.chunks[0]
	return c[:min(int64(len(c)), h.size)]
}

// ReadAt gives what is held, as io.ReaderAt.
func (h *held) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < h.size {
		part, err := h.at(off, p[n:])
		if err != nil {
			return n, err
		}
		done := copy(p[n:], part) // onto itself, where it came from the file
		n, off = n+done, off+int64(done)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// at gives held bytes from an offset, those of one chunk: the bytes in memory
// themselves, or those of the file, read into scratch.
func (h *held) at(off int64, scratch []byte) ([]byte, error) {
	left := h.size - off
	if h.file == nil {
		chunk := (*h.chunks[off/chunkSize])[off%chunkSize:]
		return chunk[:min(left, int64(len(chunk)))], nil
	}
	n := min(int64(len(scratch)), left)
	if got, err := h.file.ReadAt(scratch[:n], off); int64(got) < n {
		return nil, fmt.Errorf("spool file: %w", err)
	}
	return scratch[:n], nil
}

// drop gives the room back.
func (h *held) drop() {
	h.dropMemory()
	if h.file != nil {
		_ = h.file.Close() // it has no name: what is written to it is of no use to anybody
		h.spool.files.Add(-1)
		h.spool.disk.Add(-h.disk)
	}
	*h = held{chunks: h.chunks[:0]}
}

func (h *held) dropMemory() {
	for i, c := range h.chunks {
		if len(*c) == smallSize {
			smallChunks.Put(c)
		} else {
			chunks.Put(c)
		}
		h.chunks[i] = nil
	}
	if h.memory > 0 {
		h.spool.memory.Add(-h.memory)
		h.memory = 0
	}
	h.chunks = h.chunks[:0]
}
