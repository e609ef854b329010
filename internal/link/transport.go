package link

// transport moves frames between the host and one worker: shared memory or a
// socket. What is marked [out] is called with outbox.mu held and only touches
// memory; [reader] is called by the link's reader goroutine alone.
type transport interface {
	// put copies a frame to where the worker will find it. False: there is no room,
	// and the reader's flush is called when some has come. [out]
	put(h header, payload []byte) bool
	// publish lets the worker see what was put and says whom to wake. [out]
	publish() wakes
	// fault is what was found wrong with the worker's cursors by put. [out]
	fault() error

	// queue marks a slot as holding a request that may be revoked. [out]
	queue(id uint32)
	// revoke takes an unstarted request back. [out]
	revoke(id uint32) fate
	// started reports whether the slot says that the request was started. [out]
	started(id uint32) bool

	// wake does the system calls that publish asked for, outside every lock.
	wake(w wakes)
	// read gives frames to sink until it or the transport fails, the process has
	// ended and everything it wrote is read (ErrExited), or stop. [reader]
	read(sink sink) error
	// kick makes read look at sink.ending again.
	kick()
	// stop makes read return; release frees everything once nobody is in it.
	stop()
	release() error
	status(*Status)
}

// wakes is a set of sleepers on the worker's side.
type wakes uint8

const (
	wakeReader wakes = 1 << iota // a reader, or who waits for room
	wakeWatch                    // the watch thread
	wakeNow                      // before the goroutines that are ready
)

// fate says what became of a request.
type fate uint32

const (
	fateOpen       fate = iota // not known yet, or (socket) only STARTED tells
	fateNotStarted             // and never will be
	fateStarted
)

// sink takes what a transport reads.
type sink interface {
	// frame files one frame; p must be copied before it is looked at.
	frame(h header, p shared) error
	// flush sends what waited for room.
	flush()
	// ending reports that the process is gone: read what is there, wait for no more.
	ending() bool
	// dead reports that the link has ended.
	dead() bool
}

// shared are bytes that the worker may change at any time. They cannot be read in
// place, only copied out, so that what is checked is what is used.
type shared struct{ b []byte }

func (s shared) len() int { return len(s.b) }

func (s shared) appendTo(b *buffer) []byte {
	at := len(b.b)
	b.append(s.b)
	return b.b[at:len(b.b):len(b.b)]
}
