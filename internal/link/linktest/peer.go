// Package linktest is a worker's end of the link in Go, for tests of the host: it
// speaks protocol/link.md over the files that a link gives to its child.
// It shares no code with package link, so that the two check each other.
// Not here: Python. The real worker is python/guado.
package linktest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/link"
)

// Frame is one frame of the host.
type Frame struct {
	Kind    link.Kind
	Flags   link.Flags
	Stream  uint32
	Arg     uint32
	Payload []byte // valid until the next call of Next
}

// channel carries frames; one implementation for each transport.
type channel interface {
	next(into []byte) ([]byte, error) // one raw frame of the host
	send(raw []byte) error            // one padded frame to the host
	start(stream uint32) bool
	close() error
}

// Peer is the worker's end of a link. Next is for one goroutine; the other methods
// may be called from any.
type Peer struct {
	Channel string // "shm" or "socket"
	FDs     []int  // the worker's descriptors, in the order of GUADO_LINK
	// Threads bounds how many requests Serve has started at a time, in order of
	// arrival, as the pool threads of a worker do; 0: no bound. Set it before Serve.
	Threads int

	ch       channel
	raw      []byte
	maxFrame int

	mu       sync.Mutex // guards sequence
	sequence uint32

	closing sync.Once
	closed  error
}

// DefaultRing is the ring that a peer over a socket takes the host to have.
const DefaultRing = 1 << 20

// Open makes a peer in the host's own process from what Link.Child gave. It
// duplicates the files, so the link may close its copies.
func Open(files []*os.File, env string) (*Peer, error) {
	var fds []int
	for _, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
		}
		fds = append(fds, fd)
	}
	kind, _, _ := strings.Cut(env, ":")
	return open(kind, fds)
}

// FromEnv makes the peer of a worker process: GUADO_LINK names its descriptors.
func FromEnv() (*Peer, error) {
	kind, list, ok := strings.Cut(os.Getenv("GUADO_LINK"), ":")
	if !ok {
		return nil, errors.New("GUADO_LINK is not set")
	}
	var fds []int
	for _, s := range strings.Split(list, ",") {
		fd, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("GUADO_LINK: %w", err)
		}
		unix.CloseOnExec(fd)
		fds = append(fds, fd)
	}
	return open(kind, fds)
}

func open(kind string, fds []int) (*Peer, error) {
	p := &Peer{Channel: kind, FDs: fds, maxFrame: DefaultRing / 8}
	var err error
	switch {
	case kind == "shm" && len(fds) == 5:
		p.ch, p.maxFrame, err = openShm(fds)
	case kind == "socket" && len(fds) == 2:
		p.ch, err = openSocket(fds[0])
	default:
		err = fmt.Errorf("%s with %d descriptors is no link", kind, len(fds))
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// MaxFrame is the largest frame of the link. Over a socket it follows from the ring
// that was configured, which the peer is not told: set it there.
func (p *Peer) MaxFrame() int { return p.maxFrame }

// SetMaxFrame sets what MaxFrame gives.
func (p *Peer) SetMaxFrame(n int) { p.maxFrame = n }

// Control is the worker's end of the control socket.
func (p *Peer) Control() int { return p.FDs[len(p.FDs)-1] }

// Close closes the peer's descriptors, as the end of the process would.
func (p *Peer) Close() error {
	p.closing.Do(func() { p.closed = errors.Join(p.ch.close(), unix.Close(p.Control())) })
	return p.closed
}

// Next waits for the host's next frame; io.EOF when the host or Close ended the link.
func (p *Peer) Next() (Frame, error) {
	raw, err := p.ch.next(p.raw[:0])
	if err != nil {
		return Frame{}, err
	}
	p.raw = raw
	return Frame{
		Kind: link.Kind(raw[4]), Flags: link.Flags(raw[5]),
		Stream: binary.LittleEndian.Uint32(raw[8:]), Arg: binary.LittleEndian.Uint32(raw[12:]),
		Payload: raw[16:],
	}, nil
}

// AppendFrame appends a frame with its padding.
func AppendFrame(dst []byte, kind link.Kind, flags link.Flags, stream, arg uint32, payload []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(16+len(payload)))
	dst = append(dst, byte(kind), byte(flags), 0, 0)
	dst = le.AppendUint32(dst, stream)
	dst = le.AppendUint32(dst, arg)
	dst = append(dst, payload...)
	for n := len(payload); n%8 != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

var frames = sync.Pool{New: func() any { return new([]byte) }}

// Send sends one frame, waiting for room.
func (p *Peer) Send(kind link.Kind, flags link.Flags, stream, arg uint32, payload []byte) error {
	b := frames.Get().(*[]byte) //nolint:forcetypeassert // its New makes nothing else
	*b = AppendFrame((*b)[:0], kind, flags, stream, arg, payload)
	err := p.ch.send(*b)
	frames.Put(b)
	return err
}

// SendRaw sends bytes that may be no frame at all. Their number is a multiple of 8.
func (p *Peer) SendRaw(b []byte) error { return p.ch.send(b) }

// Start moves a request to started, as before a call of the application. False: it
// was revoked.
func (p *Peer) Start(stream uint32) bool {
	if p.Channel == "socket" {
		return p.Send(link.KindStarted, 0, stream, 0, nil) == nil
	}
	return p.ch.start(stream)
}

// SendDescriptor sends one descriptor over the control socket.
func (p *Peer) SendDescriptor(stream, sequence uint32, fd int) error {
	return p.SendControl(ControlMessage(stream, sequence), fd)
}

// ControlMessage is the message that goes with a descriptor.
func ControlMessage(stream, sequence uint32) []byte {
	b := append(make([]byte, 0, 16), "DFDG"...)
	b = binary.LittleEndian.AppendUint32(b, stream)
	b = binary.LittleEndian.AppendUint32(b, sequence)
	return binary.LittleEndian.AppendUint32(b, 0)
}

// SendControl sends any message with any descriptors over the control socket.
func (p *Peer) SendControl(message []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(p.Control(), message, rights, nil, 0)
}

// SendFile sends FILE and its descriptor.
func (p *Peer) SendFile(stream uint32, f *os.File, offset, count int64, flags link.Flags) error {
	p.mu.Lock()
	p.sequence++
	sequence := p.sequence
	p.mu.Unlock()
	if err := p.SendDescriptor(stream, sequence, int(f.Fd())); err != nil {
		return err
	}
	return p.Send(link.KindFile, flags, stream, sequence, FilePayload(offset, count))
}

// FilePayload is the payload of FILE.
func FilePayload(offset, count int64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(offset))
	return binary.LittleEndian.AppendUint64(b, uint64(count))
}

// Field is a header field.
type Field struct{ Name, Value string }

// AppendHead appends a head as INFORMATIONAL carries it; COMMIT adds the body.
func AppendHead(dst []byte, status int, reason string, length int64, fields ...Field) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint16(dst, uint16(status))
	dst = le.AppendUint16(dst, uint16(len(fields)))
	dst = le.AppendUint64(dst, uint64(length))
	dst = le.AppendUint32(dst, uint32(len(reason)))
	dst = append(dst, reason...)
	return AppendFields(dst, fields...)
}

// AppendFields appends fields alone.
func AppendFields(dst []byte, fields ...Field) []byte {
	le := binary.LittleEndian
	for _, f := range fields {
		dst = le.AppendUint16(dst, uint16(len(f.Name)))
		dst = le.AppendUint16(dst, 0)
		dst = le.AppendUint32(dst, uint32(len(f.Value)))
		dst = append(dst, f.Name...)
		dst = append(dst, f.Value...)
	}
	return dst
}

// AppendCommit appends the payload of COMMIT.
func AppendCommit(dst []byte, status int, reason string, length int64, body []byte, fields ...Field) []byte {
	dst = AppendHead(dst, status, reason, length, fields...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...)
}

// Shake waits for HELLO and answers READY with the kinds given, in order of the
// apps (default wsgi).
func (p *Peer) Shake(kinds ...string) (link.Hello, error) {
	hello, err := p.Hello()
	if err != nil {
		return hello, err
	}
	ready := link.Ready{Protocol: link.Protocol, Version: hello.Version, PID: os.Getpid(), Python: "3.13.0", Threads: hello.Threads}
	for i, a := range hello.Apps {
		kind := "wsgi"
		if i < len(kinds) {
			kind = kinds[i]
		}
		ready.Apps = append(ready.Apps, link.ReadyApp{Name: a.Name, Kind: kind})
	}
	return hello, p.SendJSON(link.KindReady, ready)
}

// Hello waits for HELLO.
func (p *Peer) Hello() (h link.Hello, err error) {
	var text []byte
	for {
		f, err := p.Next()
		if err != nil {
			return h, err
		}
		if f.Kind != link.KindHello {
			return h, fmt.Errorf("%v came before HELLO", f.Kind)
		}
		text = append(text, f.Payload...)
		if f.Flags&link.More == 0 {
			return h, json.Unmarshal(text, &h)
		}
	}
}

// SendJSON sends READY or FAILED, in fragments when need be.
func (p *Peer) SendJSON(kind link.Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	for most := p.maxFrame - 16; len(b) > most; b = b[most:] {
		if err := p.Send(kind, link.More, 0, 0, b[:most]); err != nil {
			return err
		}
	}
	return p.Send(kind, 0, 0, 0, b)
}

var errClosed = fmt.Errorf("peer is closed: %w", io.EOF)
