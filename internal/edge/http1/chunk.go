package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/exchange"
)

// chunkState is where in a chunked body (RFC 9112, section 7.1) the reader stands.
type chunkState uint8

const (
	chunkSize     chunkState = iota // before a size line
	chunkData                       // inside content
	chunkDataEnd                    // before the CR LF behind content
	chunkTrailers                   // after the last chunk
)

const (
	maxChunkLine = 256      // a size line with its extensions
	maxChunkExt  = 16 << 10 // extensions of one body together: they are carried for free
)

// errMore: the next step needs bytes that have not come.
var errMore = errors.New("more bytes needed")

func malformed(text string) error { return fmt.Errorf("%w: %s", exchange.ErrMalformedBody, text) }

// readChunked reads content of as many chunks as are buffered, and waits for more
// only when it has nothing to give.
func (b *body) readChunked(p []byte) (n int, err error) {
	for n < len(p) {
		if b.chunk == chunkData {
			if n > 0 && len(b.c.w.in.buffered()) == 0 {
				return n, nil
			}
			m, err := b.readData(p[n:])
			if n += m; err != nil {
				return n, err
			}
			if b.left == 0 {
				b.chunk = chunkDataEnd
			}
			continue
		}
		switch err = b.stepChunk(); {
		case err == nil:
		case errors.Is(err, errMore):
			if n > 0 {
				return n, nil
			}
			if err := b.fill(); err != nil {
				return 0, err
			}
		case n > 0:
			// What came before stands; the end or the error is the next call's.
			b.err = err
			return n, nil
		default:
			return 0, err
		}
	}
	return n, nil
}

// stepChunk takes the next piece of framing out of the buffer.
func (b *body) stepChunk() error {
	in := &b.c.w.in
	buffered := in.buffered()
	switch b.chunk {
	case chunkDataEnd:
		if len(buffered) > 0 && buffered[0] != '\r' || len(buffered) > 1 && buffered[1] != '\n' {
			return malformed("chunk is not followed by CR LF")
		}
		if len(buffered) < 2 {
			return errMore
		}
		in.take(2)
		b.chunk = chunkSize
		return nil
	case chunkSize:
		line, err := cutChunkLine(buffered, maxChunkLine)
		if err != nil {
			return err
		}
		size, extension, err := parseChunkLine(line)
		if err != nil {
			return err
		}
		in.take(len(line) + 2)
		if b.extra += extension; b.extra > maxChunkExt {
			return malformed("too many chunk extensions")
		}
		if b.limit > 0 && size > b.limit {
			return exchange.ErrBodyTooLarge
		}
		if b.left, b.chunk = size, chunkData; size == 0 {
			b.chunk = chunkTrailers
		}
		return nil
	default:
		return b.stepTrailer(buffered)
	}
}

// cutChunkLine gives the line at the start of b without its CR LF.
func cutChunkLine(b []byte, limit int) ([]byte, error) {
	i := bytes.IndexByte(b, '\n')
	switch {
	case i > limit || i < 0 && len(b) > limit:
		return nil, malformed("line too long")
	case i < 0:
		return nil, errMore
	case i == 0 || b[i-1] != '\r':
		return nil, malformed("bare line feed")
	}
	return b[:i-1], nil
}

// parseChunkLine reads chunk-size [ chunk-ext ]: hexadecimal digits and nothing
// else, no sign, no "0x", no "_", no white space behind; at most 15 of them, so that
// it cannot overflow.
func parseChunkLine(line []byte) (size int64, extension int, err error) {
	i := 0
	for ; i < len(line) && unhex(line[i]) <= 15; i++ {
		if i == 15 {
			return 0, 0, malformed("chunk size too large")
		}
		size = size<<4 | int64(unhex(line[i]))
	}
	if i == 0 {
		return 0, 0, malformed("chunk size is not a hexadecimal number")
	}
	rest := line[i:]
	if len(rest) == 0 {
		return size, 0, nil
	}
	if ext := trim(rest); len(ext) == 0 || ext[0] != ';' || !framing.ValidValue(ext) {
		return 0, 0, malformed("chunk size is not followed by CR LF or an extension")
	}
	return size, len(rest), nil
}

// stepTrailer takes one line of the trailer section; io.EOF is its end.
func (b *body) stepTrailer(buffered []byte) error {
	limits := &b.c.server.limits
	line, err := cutChunkLine(buffered, limits.TrailerBytes-len(b.section))
	if err != nil {
		return err
	}
	if len(line) > 0 {
		if _, p := parseField(line); p != nil {
			return malformed("trailer: " + p.Code)
		}
		if len(b.ends) >= limits.Fields {
			return malformed("too many trailer fields")
		}
		b.section = append(b.section, line...)
		b.ends = append(b.ends, len(b.section))
	}
	b.c.w.in.take(len(line) + 2)
	if len(line) > 0 {
		return nil
	}
	b.collectTrailers()
	return io.EOF
}

// collectTrailers makes fields of the lines, once section does not move any more,
// and leaves out those that may not come so late.
func (b *body) collectTrailers() {
	from := 0
	for _, end := range b.ends {
		if f, p := parseField(b.section[from:end]); p == nil && framing.TrailerAllowed(f.Name) {
			b.fields = append(b.fields, f)
		}
		from = end
	}
}
