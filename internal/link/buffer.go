package link

import (
	"sync"
	"unsafe"
)

// buffer is memory that streams lend and give back. Small ones stay with their
// stream; larger ones go through pools, which the garbage collector empties, so
// that a burst of large answers does not stay resident.
type buffer struct{ b []byte }

const (
	smallBuffer = 2 << 10 // stays with a stream
	poolFrom    = 13      // 8 KiB: smallest class of the pools
	poolTo      = 20      // 1 MiB: largest class
)

// buffers hold pointers to the first byte of blocks of 2^(class+poolFrom): a slice
// in an interface would allocate its header at every Put.
var buffers [poolTo - poolFrom + 1]sync.Pool

// room gives memory for n more bytes behind b.b, keeping what is there.
func (b *buffer) room(n int) {
	need := len(b.b) + n
	if need <= cap(b.b) {
		return
	}
	if need <= smallBuffer {
		b.b = append(make([]byte, 0, smallBuffer), b.b...)
		return
	}
	old := b.b
	b.b = append(lend(max(need, 2*cap(old))), old...)
	giveBack(old)
}

func (b *buffer) append(p []byte) {
	b.room(len(p))
	b.b = append(b.b, p...)
}

// reset empties the buffer and lets go of what is more than small.
func (b *buffer) reset() {
	if cap(b.b) > smallBuffer {
		giveBack(b.b)
		b.b = nil
	}
	b.b = b.b[:0]
}

func lend(n int) []byte {
	for class := range buffers {
		if size := 1 << (class + poolFrom); n <= size {
			if p, ok := buffers[class].Get().(*byte); ok {
				return unsafe.Slice(p, size)[:0]
			}
			return make([]byte, 0, size)
		}
	}
	return make([]byte, 0, n)
}

func giveBack(b []byte) {
	for class := range buffers {
		if cap(b) == 1<<(class+poolFrom) {
			buffers[class].Put(unsafe.SliceData(b))
			return
		}
	}
}
