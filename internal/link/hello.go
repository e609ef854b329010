package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// maxJSON bounds a JSON message after reassembly.
const maxJSON = 256 << 10

// App is one application that a worker is to run.
type App struct {
	Name     string `json:"name"`
	Target   string `json:"target"`
	Kind     string `json:"kind"` // auto, wsgi, asgi
	Factory  bool   `json:"factory"`
	Lifespan string `json:"lifespan"` // auto, on, off
	// File says that a configuration file or a program describes the application: hints
	// then name keys, not options of the command.
	File bool `json:"file"`
	// Register names what an application kept its items in before the host did.
	Register string `json:"register,omitempty"`
	// Pages names the application whose turns this one of ours runs; it has no target.
	Pages string `json:"pages,omitempty"`
}

// Executor is an executor that the worker's applications may call.
type Executor struct {
	Name   string `json:"name"`
	Bypass bool   `json:"bypass,omitempty"` // its tasks run in the worker itself
}

// Hello is what a worker is told at its start. Protocol and the credits are set by
// [Link.Hello] from the link's own.
type Hello struct {
	Protocol       int    `json:"protocol"`
	Version        string `json:"version"`
	Slot           string `json:"slot"`
	Instance       string `json:"instance"`
	Apps           []App  `json:"apps"`
	Dir            string `json:"dir"`
	Threads        int    `json:"threads"`
	Concurrency    int    `json:"concurrency"`
	Multiprocess   bool   `json:"multiprocess"`
	Dev            bool   `json:"dev"`
	RequestCredit  uint32 `json:"request_credit"`
	ResponseCredit uint32 `json:"response_credit"`
	FileCredit     uint32 `json:"file_credit"`
	// ExitTimeout is how many milliseconds the host waits for lifespan shutdown and
	// atexit, once the grace of DRAIN is over.
	ExitTimeout int64 `json:"exit_timeout"`

	Executors []Executor `json:"executors,omitempty"`
	Phase     int        `json:"phase,omitempty"` // from 3 on: users, connections and pages
	// Entering: the worker asks before it is ready, for it may have items to take over.
	Entering bool `json:"entering,omitempty"`
	// StateBytes is what all stores of the worker may cost; 0: it has none.
	StateBytes int64 `json:"state_bytes,omitempty"`
}

// ReadyApp is an application as the worker found it.
type ReadyApp struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // wsgi, asgi
}

// Ready is what a worker says once its applications are loaded.
type Ready struct {
	Protocol   int        `json:"protocol"`
	Version    string     `json:"version"`
	PID        int        `json:"pid"`
	Python     string     `json:"python"`
	Executable string     `json:"executable"`
	Apps       []ReadyApp `json:"apps"`
	Loop       string     `json:"loop"` // uvloop, asyncio, empty
	Threads    int        `json:"threads"`
	ImportMS   int        `json:"import_ms"` // of the applications
}

// booted is READY or FAILED, reassembled.
type booted struct {
	kind Kind
	json []byte
}

// BehindHello sets what is done once HELLO is sent, before any request. Set it before Hello.
func (l *Link) BehindHello(f func()) { l.behindHello = f }

// Hello sends HELLO and waits for READY. The error is a [*BootError] when the worker
// says why it cannot boot, ctx's when it says nothing in time, else the link's.
func (l *Link) Hello(ctx context.Context, hello Hello) (Ready, error) {
	hello.Protocol = Protocol
	hello.RequestCredit, hello.ResponseCredit, hello.FileCredit = l.o.RequestCredit, l.o.ResponseCredit, l.o.FileCredit
	if hello.Apps == nil {
		hello.Apps = []App{}
	}
	p, err := json.Marshal(hello)
	if err != nil {
		return Ready{}, fmt.Errorf("encode HELLO: %w", err)
	}
	if len(p) > maxJSON {
		return Ready{}, fmt.Errorf("HELLO of %d bytes, the most is %d", len(p), maxJSON)
	}
	if err := l.sent(l.out.send(&l.line, KindHello, 0, 0, p)); err != nil {
		return l.lastWords(err)
	}
	if l.behindHello != nil {
		l.behindHello()
	}
	select {
	case b := <-l.boot:
		return l.booted(b)
	case <-l.done:
		return l.lastWords(l.Err())
	case <-ctx.Done():
		return Ready{}, fmt.Errorf("worker has not said that it is ready: %w", context.Cause(ctx))
	}
}

// lastWords is what a worker has said that ended: as a rule FAILED, perhaps before it
// was greeted.
func (l *Link) lastWords(ended error) (Ready, error) {
	select {
	case b := <-l.boot:
		return l.booted(b)
	default:
		return Ready{}, ended
	}
}

func (l *Link) booted(b booted) (Ready, error) {
	if b.kind == KindFailed {
		failed := new(BootError)
		if err := json.Unmarshal(b.json, failed); err != nil {
			err = corrupt("FAILED: %w", err)
			l.condemn(err)
			return Ready{}, err
		}
		return Ready{}, failed
	}
	var r Ready
	if err := json.Unmarshal(b.json, &r); err != nil {
		err = corrupt("READY: %w", err)
		l.condemn(err)
		return Ready{}, err
	}
	if r.Protocol != Protocol {
		err := &BootError{
			Stage: "handshake", Protocol: r.Protocol, Version: r.Version,
			Message: fmt.Sprintf("the worker speaks protocol %d (version %s), the host %d", r.Protocol, r.Version, Protocol),
			Hint:    "another package named guado was imported; remove it from the environment or install the host's version",
		}
		l.condemn(err)
		return Ready{}, err
	}
	l.loopless.Store(r.Loop == "")
	return r, nil
}

// own takes the frames of stream 0. It is the reader's.
func (l *Link) own(h header, p shared) error {
	switch h.kind {
	case KindReady, KindFailed:
		return l.bootFrame(h, p)
	case KindPong:
		l.pongMu.Lock()
		l.pong, l.pongAt = h.arg, time.Now()
		l.pongMu.Unlock()
		return nil
	case KindCall:
		return l.calls.frame(h, p)
	case KindCallCancel:
		l.calls.cancel(h.arg)
		return nil
	case KindStats:
		return l.stats.frame(h, p)
	}
	return corrupt("%v on stream 0", h.kind)
}

var errBootTwice = errors.New("READY or FAILED came twice")

func (l *Link) bootFrame(h header, p shared) error {
	if l.bootSaid {
		return corrupt("%w", errBootTwice)
	}
	if len(l.bootJSON) > 0 && l.bootKind != h.kind {
		return corrupt("%v between fragments of %v", h.kind, l.bootKind)
	}
	if len(l.bootJSON)+p.len() > maxJSON {
		return corrupt("%v of more than %d bytes", h.kind, maxJSON)
	}
	l.bootKind = h.kind
	l.bootJSON = append(l.bootJSON, p.b...)
	if h.flags&More == 0 {
		l.bootSaid = true
		l.boot <- booted{h.kind, l.bootJSON} // room for the one that is allowed
		l.bootJSON = nil
	}
	return nil
}

// Ping asks the worker's watch thread for a sign of life, and its event loop for one
// that [Link.Stats] tells of.
func (l *Link) Ping(nonce uint32) { l.tellWorker(KindPing, nonce, heartbeat()) }

// LastPong is the last answer to [Link.Ping] and when it came.
func (l *Link) LastPong() (nonce uint32, at time.Time) {
	l.pongMu.Lock()
	defer l.pongMu.Unlock()
	return l.pong, l.pongAt
}

// Drain tells the worker to finish what it has, to take nothing new, and to exit.
func (l *Link) Drain(grace time.Duration) {
	l.tellWorker(KindDrain, uint32(min(max(grace.Milliseconds(), 0), 1<<31)), nil)
}

func (l *Link) tellWorker(kind Kind, arg uint32, p []byte) {
	// A link that has ended has said so through Done.
	_ = l.sent(l.out.send(&l.line, kind, 0, arg, p))
}
