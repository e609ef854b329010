package http1

import (
	"errors"
	"fmt"
	"io"

	"github.com/guado-server/guado/internal/exchange"
)

// copySize is how much of a file is read at a time where sendfile cannot go.
const copySize = 32 << 10

// smallFile is up to where a file is read into the output buffer, so that it leaves
// in one write with its head.
const smallFile = bufferSize / 2

// File sends count bytes of f from offset on. f's own offset is never touched: two
// answers may share it.
func (a *answer) File(f exchange.File, offset, count int64) error {
	switch {
	case a.broken != nil:
		return a.broken
	case !a.begun:
		return errNoHead
	case offset < 0 || count < 0:
		return fmt.Errorf("file range %d+%d is negative", offset, count)
	}
	count = a.count.Take(count)
	if count == 0 {
		return nil
	}
	w := a.c.w
	if a.chunked {
		w.out = appendChunkSize(w.out, count)
	}
	var err error
	if a.c.plain && count > smallFile {
		err = a.sendFile(f, offset, count)
	} else {
		err = a.copyFile(f, offset, count)
	}
	if err != nil {
		return err
	}
	if a.chunked {
		w.out = append(w.out, lineEnd...)
	}
	return nil
}

// copyFile reads the range with pread and writes it.
func (a *answer) copyFile(f exchange.File, offset, count int64) error {
	var buf []byte
	if count <= smallFile {
		buf = a.c.w.body.scratch[:]
	} else {
		buf = make([]byte, min(count, copySize))
	}
	for count > 0 {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), count)], offset)
		if n == 0 {
			return a.fileFailed(err)
		}
		offset += int64(n)
		count -= int64(n)
		if err := a.putRaw(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// putRaw is put without framing: inside a chunk whose size is already out.
func (a *answer) putRaw(p []byte) error {
	chunked := a.chunked
	a.chunked = false
	err := a.put(p)
	a.chunked = chunked
	return err
}

// fileFailed ends an answer whose file is shorter than the head or the chunk has
// promised, or cannot be read.
func (a *answer) fileFailed(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	err = fmt.Errorf("file of an answer: %w", err)
	a.Abort(err)
	return err
}
