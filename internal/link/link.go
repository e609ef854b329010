// Package link is the host's end of the link to one worker process: frames over
// shared memory or a socket, streams, credit, descriptors (protocol/link.md).
// Before it: pool, which opens streams; supervise, which starts and ends the process.
// Not here: starting processes, queueing, retrying, reading bodies of clients.
//
// A worker is semi-trusted: whatever breaks the protocol ends this link with
// [ErrCorrupt], and nothing a worker does blocks a goroutine of the host for good.
//
// Goroutines, all owned by the Link and waited for by [Link.Close]: the reader of
// frames, the reader of descriptors, the guard of the wake-up descriptors (shared
// memory) or the writer (socket), and the one that hands out log messages.
// Locks: Stream.mu before files.mu; outbox.mu and table.mu are taken alone. None is
// held across a system call, a bell or a callback.
package link

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Names of the transports.
const (
	SharedMemory = "shm"
	Socket       = "socket"
)

// A ring passes through all of its memory however little is under way, so it must fit
// into a processor's own cache beside the bodies. Over a socket it only sets the
// largest frame, and the worker takes that one for granted.
const (
	memoryRing = 1 << 19
	socketRing = 1 << 20
)

// Options of a link. Zero values mean the defaults.
type Options struct {
	Transport      string // "shm", "socket", "": the best that the platform has
	Ring           int    // bytes each way, a power of two; 512 KiB of shared memory, 1 MiB over a socket
	Slots          int    // streams open at once, at most 65,536; 16,384
	RequestCredit  uint32 // bytes of a request body under way to the worker; 64 KiB
	ResponseCredit uint32 // bytes of an answer's body under way to the host; 256 KiB
	FileCredit     uint32 // files of an answer under way to the client; 16
	Log            *slog.Logger
	KeepErrors     bool // for Stream.LoggedError (guado dev)
}

func (o Options) withDefaults() (Options, error) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Slots, 16384)
	if o.RequestCredit == 0 {
		o.RequestCredit = 64 << 10
	}
	if o.ResponseCredit == 0 {
		o.ResponseCredit = 256 << 10
	}
	if o.FileCredit == 0 {
		o.FileCredit = 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Ring != 0 && (o.Ring < 4096 || o.Ring&(o.Ring-1) != 0 || o.Ring > 1<<30):
		return o, fmt.Errorf("link ring of %d bytes is not a power of two from 4 KiB to 1 GiB", o.Ring)
	case o.Slots < 1 || o.Slots > 1<<16:
		return o, fmt.Errorf("link with %d slots: 1 to 65,536 are possible", o.Slots)
	case o.Transport != SharedMemory && o.Transport != Socket && o.Transport != "":
		return o, fmt.Errorf("unknown link transport %q: %s and %s exist", o.Transport, SharedMemory, Socket)
	}
	return o, nil
}

// Link is the host's end of the link to one worker. All methods may be called from
// any goroutine.
type Link struct {
	o       Options
	t       transport
	out     outbox
	line    line // frames of stream 0 that wait; guarded by out.mu
	table   table
	files   files
	control *control
	logs    logs
	stats   stats
	calls   calls
	states  states

	loopless atomic.Bool // the worker has said that it has no event loop

	behindHello func() // nil: nothing

	boot     chan booted
	bootKind Kind   // the reader's, as the two below
	bootJSON []byte // READY or FAILED under reassembly
	bootSaid bool

	pongMu sync.Mutex // guards pong and pongAt
	pong   uint32
	pongAt time.Time

	childMu sync.Mutex // guards child
	child   []*os.File
	env     string

	exitOnce  sync.Once
	exited    chan struct{} // closed by ProcessExited
	endings   atomic.Int32  // the first one counts
	ended     atomic.Bool
	cause     error // set before ended
	done      chan struct{}
	readers   sync.WaitGroup
	closeOnce sync.Once
	closed    error
}

// New makes a link and starts its readers. Close it in any case.
func New(o Options) (*Link, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Link{
		o: o, table: newTable(o.Slots), boot: make(chan booted, 1),
		exited: make(chan struct{}), done: make(chan struct{}),
	}
	l.files.l, l.files.claimed = l, make(chan struct{}, 1)
	l.logs.news.L = &l.logs.mu
	if o.KeepErrors {
		l.logs.failed = map[uint32]string{}
	}
	child, err := l.connect()
	if err != nil {
		return nil, fmt.Errorf("link over %s: %w", l.o.Transport, err)
	}
	l.out.frames = l.o.Ring/8 - headerSize
	l.out.t, l.out.own = l.t, &l.line
	var end *os.File
	if l.control, end, err = newControl(); err != nil {
		closeFiles(child)
		l.t.stop()
		return nil, errors.Join(err, l.t.release())
	}
	child = append(child, end)
	l.child = child
	fds := make([]string, len(l.child))
	for i := range fds {
		fds[i] = strconv.Itoa(3 + i)
	}
	l.env = l.o.Transport + ":" + strings.Join(fds, ",")
	l.readers.Go(l.readFrames)
	l.readers.Go(l.readControl)
	return l, nil
}

// connect makes the transport and gives the worker's ends of it. When nobody has
// chosen it is shared memory, unless this machine refuses some part of that.
func (l *Link) connect() (child []*os.File, err error) {
	name := l.o.Transport
	if name == SharedMemory || name == "" && shmWorks() {
		ring := cmp.Or(l.o.Ring, memoryRing)
		l.t, child, err = newShm(ring, l.o.Slots, l.condemn)
		if err == nil || name == SharedMemory {
			l.o.Transport, l.o.Ring = SharedMemory, ring
			return child, err
		}
		l.o.Log.Warn("shared memory cannot be used, the worker is reached over a socket", "error", err)
	}
	l.o.Transport, l.o.Ring = Socket, cmp.Or(l.o.Ring, socketRing)
	l.t, child, err = newSocket(l.o.Ring, &l.out)
	return child, err
}

// Child gives what the worker process inherits: files for exec.Cmd.ExtraFiles, which
// become descriptors 3 and up, and the value of GUADO_LINK that names them so.
func (l *Link) Child() (files []*os.File, env string) {
	l.childMu.Lock()
	defer l.childMu.Unlock()
	return l.child, l.env
}

// CloseChild closes the host's copies of those files; call it after the start.
func (l *Link) CloseChild() {
	l.childMu.Lock()
	defer l.childMu.Unlock()
	closeFiles(l.child)
	l.child = nil
}

// Open gives a stream for one exchange, which rings b. [ErrNoSlot] when all slots are
// taken, the link's own error when it has ended.
func (l *Link) Open(b Bell) (*Stream, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	s, id := l.table.take(l)
	if s == nil {
		return nil, ErrNoSlot
	}
	s.begin(id, b)
	return s, nil
}

// Logs sets who gets the worker's log messages. sink runs on a goroutine of the link
// and may be slow: what does not fit meanwhile is dropped and counted. It must not
// call Close. name names the exchange of a stream; it runs on the reader and must not
// wait. It may be nil.
func (l *Link) Logs(name func(stream uint32) string, sink func(LogMessage)) { l.logs.start(name, sink) }

// ProcessExited says that the worker's process is gone. Everything it wrote is still
// read; then the link ends with [ErrExited], if it has not ended before.
func (l *Link) ProcessExited() {
	l.exitOnce.Do(func() { close(l.exited) })
	l.t.kick()
	l.control.kick()
}

// Done is closed when the link has ended, for the reason that Err gives.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err is nil while the link lives, then [ErrCorrupt], [ErrExited] or [ErrClosed].
func (l *Link) Err() error {
	if !l.ended.Load() {
		return nil
	}
	return l.cause
}

// Status is what can be seen of a link from outside.
type Status struct {
	Transport string `json:"transport"`
	Open      int    `json:"open"`    // streams
	Waiting   int    `json:"waiting"` // bytes that the worker has not read
	Error     string `json:"error,omitempty"`
}

// Status tells how the link is.
func (l *Link) Status() Status {
	s := Status{Open: l.table.open()}
	l.out.mu.Lock()
	l.t.status(&s)
	l.out.mu.Unlock()
	if err := l.Err(); err != nil {
		s.Error = err.Error()
	}
	return s
}

// Close ends the link, stops its goroutines and gives back memory and descriptors.
func (l *Link) Close() error {
	l.closeOnce.Do(func() {
		l.end(ErrClosed, false)
		<-l.done // another end may be under way
		l.t.stop()
		l.control.kick()
		l.readers.Wait()
		l.files.close()
		l.logs.close()
		l.CloseChild()
		l.closed = errors.Join(l.t.release(), l.control.file.Close())
	})
	return l.closed
}

// condemn ends the link because of the worker.
func (l *Link) condemn(err error) { l.end(err, false) }

// end ends the link; the first one counts. exact: everything the worker has ever
// said was read.
func (l *Link) end(err error, exact bool) {
	if l.endings.Add(1) != 1 {
		return
	}
	made := l.table.all()
	l.out.close(made, exact)
	l.cause = err
	l.ended.Store(true)
	close(l.done)
	l.calls.end()
	for _, s := range made {
		s.ring()
		s.release(s.id.Load()) // if it was abandoned
	}
	l.t.kick()
	l.control.kick()
}

// readFrames is the reader.
func (l *Link) readFrames() {
	err := l.t.read(l)
	if errors.Is(err, io.EOF) {
		err = l.afterEOF()
	}
	switch {
	case errors.Is(err, ErrExited):
		<-l.control.done // descriptors that were sent before the end
		l.end(ErrExited, true)
	case err != nil:
		l.end(err, false)
	}
}

// eofGrace is how long a socket may be at its end before its process is.
const eofGrace = time.Second

// afterEOF waits for the news that the process has ended: it alone says that what
// was not started never will be.
func (l *Link) afterEOF() error {
	t := time.NewTimer(eofGrace)
	defer t.Stop()
	select {
	case <-l.exited:
		return ErrExited
	case <-l.done:
		return nil
	case <-t.C:
		return corrupt("worker closed its link and runs on")
	}
}

func (l *Link) readControl() {
	if err := l.control.read(l); err != nil && !l.dead() {
		l.condemn(err)
	}
}

func (l *Link) flush() {
	_ = l.sent(l.out.flush()) // an error has ended the link
}

func (l *Link) ending() bool {
	select {
	case <-l.exited:
		return true
	default:
		return false
	}
}

func (l *Link) dead() bool { return l.ended.Load() }

// sent turns what the outbox says into the link's error.
func (l *Link) sent(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrClosed) {
		l.condemn(err)
	}
	if err := l.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// tell sends a frame without payload on a stream.
func (l *Link) tell(s *Stream, id uint32, kind Kind, arg uint32) {
	// A link that has ended rings the stream, which then sees Err.
	_ = l.sent(l.out.send(&s.line, kind, id, arg, nil))
}

// grant sends CREDIT and FILE_CREDIT.
func (l *Link) grant(s *Stream, id uint32, back grants) {
	if back.bytes > 0 {
		l.tell(s, id, KindGrant, uint32(back.bytes))
	}
	if back.files > 0 {
		l.tell(s, id, KindFileGrant, uint32(back.files))
	}
}

// closeFile closes a worker's file that nobody wants.
func (l *Link) closeFile(f *os.File) {
	if err := f.Close(); err != nil {
		l.o.Log.Warn("closing a worker's file", "error", err)
	}
}

// closeFiles closes what a failed start or a started process leaves behind; there is
// nothing in them that could be lost.
func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
