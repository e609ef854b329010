package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gobwas/httphead"
	"github.com/gobwas/ws/wsflate"
	"github.com/klauspost/compress/flate"

	"github.com/guado-server/guado/internal/exchange"
)

// negotiate takes the first offer of permessage-deflate that can be kept, without
// context takeover in either direction: a context is 40 KiB and more for each socket.
// window is that of what is sent; 0: no offer was good.
func negotiate(x *exchange.Exchange) (extension string, window int) {
	for i := range x.Fields {
		if !x.Fields[i].Is("sec-websocket-extensions") {
			continue
		}
		offers, ok := httphead.ParseOptions(x.Fields[i].Value, nil)
		if !ok {
			return "", 0
		}
		for _, offer := range offers {
			if string(offer.Name) != wsflate.ExtensionName {
				continue
			}
			var p wsflate.Parameters
			if p.Parse(offer) != nil {
				continue
			}
			extension = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
			window = 1 << 15
			if p.ServerMaxWindowBits.Defined() && p.ServerMaxWindowBits < 15 {
				extension += fmt.Sprintf("; server_max_window_bits=%d", p.ServerMaxWindowBits)
				window = 1 << p.ServerMaxWindowBits
			}
			return extension, window
		}
	}
	return "", 0
}

var packBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func giveBack(b *bytes.Buffer) {
	if b.Cap() <= pieceSize {
		b.Reset()
		packBuffers.Put(b)
	}
}

// packs says whether the message that begins or goes on with n bytes is compressed.
func (k *Socket) packs(n int, fin bool) bool {
	if k.deflate == 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.fragmented {
		k.packing = !fin || n >= k.limits.CompressionMin
	}
	return k.packing
}

// tail is what a flush ends with, and messages leave out (RFC 7692, 7.2.1).
var tail = []byte{0, 0, 0xff, 0xff}

// pack compresses a message, or a part of one, each by itself.
func pack(p []byte, window int, fin bool) (*bytes.Buffer, error) {
	b := packBuffers.Get().(*bytes.Buffer)
	var err error
	if window == 1<<15 {
		err = flate.StatelessDeflate(b, p, false, nil)
	} else {
		err = packNarrow(b, p, window)
	}
	if err != nil {
		return nil, fmt.Errorf("compress a message: %w", err)
	}
	if !bytes.HasSuffix(b.Bytes(), tail) {
		return nil, errors.New("compress a message: the flush has no end")
	}
	if fin {
		b.Truncate(b.Len() - len(tail))
	}
	return b, nil
}

// packNarrow is for the rare client that asks for a small window.
func packNarrow(b *bytes.Buffer, p []byte, window int) error {
	w, err := flate.NewWriterWindow(b, window)
	if err != nil {
		return err
	}
	if _, err := w.Write(p); err != nil {
		return err
	}
	return w.Flush()
}

var unpackers = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// ending closes the stream of a message: the flush that was left out, and an empty
// final block.
var ending = []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}

var errTooBig = errors.New("the message is longer than allowed once it is unpacked")

// unpack appends the message to dst, which never grows over most bytes.
func unpack(dst, p []byte, most int) ([]byte, error) {
	r := unpackers.Get().(io.ReadCloser)
	defer unpackers.Put(r)
	source := io.MultiReader(bytes.NewReader(p), bytes.NewReader(ending))
	if err := r.(flate.Resetter).Reset(source, nil); err != nil {
		return dst, fmt.Errorf("unpack a message: %w", err)
	}
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > most:
			return dst, errTooBig
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return dst, fmt.Errorf("unpack a message: %w", err)
		}
	}
}
