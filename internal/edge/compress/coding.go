package compress

import (
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder is what gzip and zstd writers have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// coding is one content coding and its encoders at rest: they are dear to make.
type coding struct {
	name string
	pool sync.Pool
}

var codings = map[string]*coding{
	"gzip": {name: "gzip", pool: sync.Pool{New: func() any {
		w, err := gzip.NewWriterLevel(io.Discard, gzipLevel)
		if err != nil {
			panic(err) // of a level that does not exist
		}
		return encoder(w)
	}}},
	"zstd": {name: "zstd", pool: sync.Pool{New: func() any {
		// One goroutine and a small window: memory is per answer under way. RFC 9659
		// bounds the window of "zstd" in HTTP to 8 MiB anyway.
		w, err := zstd.NewWriter(io.Discard, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(zstdWindow), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			panic(err) // of options that do not exist
		}
		return encoder(w)
	}}},
}

const (
	gzipLevel  = 4
	zstdWindow = 128 << 10
)

func (k *coding) get(w io.Writer) encoder {
	e := k.pool.Get().(encoder)
	e.Reset(w)
	return e
}

func (k *coding) put(e encoder) {
	e.Reset(io.Discard)
	k.pool.Put(e)
}
