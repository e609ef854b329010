package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// client is one page's client. It keeps what the protocol asks of one, comes and goes in
// every bad manner there is, and holds what it gets against what it was promised: each
// message once and in order, or word that some are missing.
type client struct {
	addr  string
	posts *http.Client
	rand  *rand.Rand
	tally *tally

	page, cookie, instance string
	blank                  bool // snapshots of its page hold nothing: it has no class
	endings                []ending

	epoch string
	at    uint64 // number of the last frame
	acked uint64
	seen  uint64 // number inside the last message

	sent    uint64 // number of its last message
	told    uint64 // what the last one of them says
	pending []outgoing
	asked   map[uint64]uint64 // requests without a reply: what they say
	again   []uint64          // of them: those to ask for again
	mayTail bool              // it let the tail pass its limits
	flooded uint64            // the last message of those that did
	anew    bool              // a snapshot is due, or of a blank page the message that takes its place
	replied map[uint64]bool   // what its requests said that were answered
}

type outgoing struct {
	c     uint64
	frame []byte
}

// received is a host's frame.
type received struct {
	T       string
	ID      uint32
	Epoch   string
	At      uint64
	Resumed bool
	Why     string
	Got     uint64
	N       uint64
	M, D    *struct{ I uint64 }
	S       json.RawMessage
	R       uint64
	E       *struct{ Code, Message string }
	G       uint64
	W       int
	P       int
}

// broken is a violated promise; every other error is a connection that ended.
type broken struct{ text string }

func (b *broken) Error() string { return b.text }

func wrong(format string, args ...any) error { return &broken{fmt.Sprintf(format, args...)} }

// visit is one connection: it attaches, lives for a number of frames, and ends in a
// manner of its own. until: it stays until it has seen this message.
func (c *client) visit(until uint64) error {
	w, err := c.connect()
	if err != nil {
		return c.verdict(err)
	}
	kept := false
	defer func() {
		if !kept {
			w.close()
		}
	}()
	end := pick(c.rand, c.endings)
	frames := c.rand.IntN(12)
	if until > 0 {
		end, frames = cut, 1<<30
	}
	for i := 0; i < frames; i++ {
		if until > 0 && c.seen >= until && len(c.asked) == 0 && len(c.pending) == 0 {
			return c.verdict(c.acknowledge(w))
		}
		if i%3 == 1 && until == 0 {
			if err := c.speak(w); err != nil {
				return c.verdict(err)
			}
		}
		wait := patience
		if until == 0 {
			wait = 150 * time.Millisecond // there need not be anything to hear
		}
		err := c.next(w, wait)
		if errors.Is(err, errQuiet) {
			break
		}
		if err != nil {
			return c.verdict(err)
		}
	}
	kept, err = end(c, w)
	return err
}

// verdict says of the end of a connection whether it was allowed.
func (c *client) verdict(err error) error {
	var closed *closedError
	var b *broken
	switch {
	case errors.As(err, &b):
		return err
	case errors.As(err, &closed):
		c.tally.closed(closed)
		if closed.code >= 3500 {
			return wrong("the host closed with %d %s", closed.code, closed.reason)
		}
	}
	return nil
}

func (c *client) connect() (*wire, error) {
	hello := fmt.Appendf(nil, `{"t":"hello","v":1,"page":%q,"client":%q`, c.page, c.instance)
	if c.epoch != "" {
		hello = fmt.Appendf(hello, `,"epoch":%q,"at":%d`, c.epoch, c.at)
	}
	hello = append(hello, '}')
	var w *wire
	var err error
	small := c.rand.IntN(2) == 0
	if c.rand.IntN(3) > 0 {
		w, err = dialSocket(c.addr, c.cookie, hello, small)
	} else {
		w, err = dialStream(c.posts, c.addr, c.cookie, c.page, hello, small)
	}
	if err != nil {
		return nil, err
	}
	if err := c.greeted(w); err != nil {
		w.close() // the greeting's error counts
		return nil, err
	}
	return w, nil
}

// greeted checks the host's hello and sends again what did not arrive.
func (c *client) greeted(w *wire) error {
	p, err := w.read(patience)
	if err != nil {
		return err
	}
	var h received
	if err := json.Unmarshal(p, &h); err != nil || h.T != "hello" {
		return wrong("the first frame is %s", p)
	}
	w.id = h.ID
	first := c.epoch == ""
	switch {
	case h.Resumed && h.At != c.at:
		return wrong("the host resumes from %d, the client is at %d", h.At, c.at)
	case !h.Resumed && (h.Why != "tail" || !c.mayTail && !first):
		return wrong("the host does not resume: %s (may pass the tail: %v, first: %v)", h.Why, c.mayTail, first)
	case !first && h.Epoch != c.epoch:
		return wrong("the stream has another name")
	case h.Got > c.sent:
		return wrong("the host has message %d, the last one is %d", h.Got, c.sent)
	}
	c.epoch, c.anew = h.Epoch, c.anew || !h.Resumed
	c.mayTail = c.mayTail && h.Resumed && c.seen < c.flooded
	c.tally.attached(h.Resumed)
	var again [][]byte
	if !h.Resumed {
		c.at, c.acked = h.At, h.At
	}
	c.settled(h.Got)
	if !h.Resumed {
		c.again = slices.Sorted(maps.Keys(c.asked))
	}
	// What became of a request that the host has, it tells when it is asked again: with
	// every hello, for one may be lost on its way.
	for _, id := range c.again {
		if i, open := c.asked[id]; open && id <= h.Got {
			again = append(again, fmt.Appendf(nil, `{"c":%d,"q":{"i":%d}}`, id, i))
		}
	}
	for _, o := range c.pending {
		again = append(again, o.frame)
	}
	if len(again) == 0 {
		return nil
	}
	return w.write(again...)
}

// settled drops what the host has.
func (c *client) settled(got uint64) {
	for len(c.pending) > 0 && c.pending[0].c <= got {
		c.pending = c.pending[1:]
	}
}

// next takes one frame.
func (c *client) next(w *wire, wait time.Duration) error {
	p, err := w.read(wait)
	if errors.Is(err, errQuiet) && wait == patience {
		return wrong("the host said nothing for %v; seen %d, %d messages and %d replies open", wait, c.seen, len(c.pending), len(c.asked))
	}
	if err != nil {
		return err
	}
	var f received
	if err := json.Unmarshal(p, &f); err != nil {
		return wrong("a frame is no JSON: %q", p)
	}
	if f.N > 0 {
		if err := c.take(&f); err != nil {
			return err
		}
	} else if f.G > 0 {
		c.settled(f.G)
	} else if string(p) == "{}" {
		return c.acknowledge(w)
	}
	if f.W == 1 || c.at > c.acked && c.rand.IntN(4) == 0 {
		return c.acknowledge(w)
	}
	return nil
}

// take holds a numbered frame against what must come.
func (c *client) take(f *received) error {
	if f.N != c.at+1 {
		return wrong("frame %d came after %d", f.N, c.at)
	}
	c.at = f.N
	switch {
	case f.M != nil:
		// What is pushed before the snapshot is there comes first, and is part of it.
		if f.M.I <= c.seen || f.M.I != c.seen+1 && !c.anew {
			return wrong("message %d came after %d", f.M.I, c.seen)
		}
		c.seen, c.anew = f.M.I, c.anew && !c.blank
	case f.S != nil:
		return c.show(f.S)
	case f.R > 0:
		c.settled(f.R)
		i, open := c.asked[f.R]
		switch {
		case !open:
			return wrong("a reply to %d, which nobody waits for", f.R)
		case f.E != nil && (c.tally.restarts.Load() == 0 || f.E.Code != "lost" && (!c.blank || f.E.Code != "busy")):
			return wrong("request %d failed: %s %s", f.R, f.E.Code, f.E.Message)
		case f.E == nil && (f.D == nil || f.D.I != i):
			return wrong("the reply to %d is not %d", f.R, i)
		}
		delete(c.asked, f.R)
		if f.E == nil {
			c.replied[i] = true
		}
	default:
		return wrong("a numbered frame without anything")
	}
	return nil
}

// show takes a snapshot.
func (c *client) show(text json.RawMessage) error {
	var s *struct{ I uint64 }
	if err := json.Unmarshal(text, &s); err != nil || c.blank != (s == nil) {
		return wrong("a snapshot is %s", text)
	}
	if c.blank {
		return nil
	}
	if s.I < c.seen {
		return wrong("the snapshot is of %d, and %d was seen", s.I, c.seen)
	}
	c.seen, c.anew = s.I, false
	return nil
}

func (c *client) acknowledge(w *wire) error {
	c.acked = c.at
	return w.write(fmt.Appendf(nil, `{"a":%d}`, c.at))
}

// speak sends a message, or a request.
func (c *client) speak(w *wire) error {
	c.sent++
	c.told++
	kind := "m"
	if c.rand.IntN(2) == 0 {
		kind = "q"
		c.asked[c.sent] = c.told
	}
	frame := fmt.Appendf(nil, `{"c":%d,"a":%d,"%s":{"i":%d}}`, c.sent, c.at, kind, c.told)
	// Sent again it may not acknowledge less than was acknowledged since.
	c.pending = append(c.pending, outgoing{c.sent, fmt.Appendf(nil, `{"c":%d,"%s":{"i":%d}}`, c.sent, kind, c.told)})
	c.acked = c.at
	return w.write(frame)
}

// ---- how connections end ------------------------------------------------------------

// ending tells whether the connection stays open.
type ending func(c *client, w *wire) (kept bool, err error)

var endings = []ending{cut, cut, reset, stall, vanish, malform, malform}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// cut: the network is gone, and says so.
func cut(*client, *wire) (bool, error) { return false, nil }

// reset: likewise, rudely.
func reset(_ *client, w *wire) (bool, error) {
	if t, ok := w.conn.(*net.TCPConn); ok {
		return false, t.SetLinger(0)
	}
	return false, nil
}

// stall: it does not read while a lot is sent to it, and is closed for it.
func stall(c *client, w *wire) (bool, error) {
	c.tally.stalls.Add(1)
	c.mayTail = true
	last, err := c.tally.flood(c.page)
	if err != nil {
		return false, err
	}
	c.flooded = last
	if c.blank {
		// What a real server's kernel has for it is megabytes: it was let go all the same.
		return false, nil
	}
	return false, w.drain()
}

// vanish: the network is gone and nobody says so. The host must let go by itself: because
// the client comes back on another connection, or because it hears nothing.
func vanish(c *client, w *wire) (bool, error) {
	c.tally.vanished.Add(1)
	if c.rand.IntN(6) > 0 {
		return c.tally.keep(w), nil
	}
	return false, w.drain()
}

// malform: it breaks the protocol, and must be told so.
func malform(c *client, w *wire) (bool, error) { return false, c.malform(w) }

func (c *client) malform(w *wire) error {
	c.tally.malformed.Add(1)
	var bad string
	if w.socket && c.rand.IntN(2) == 0 {
		frame := pick(c.rand, badFrames)
		if _, err := w.conn.Write(frame); err != nil {
			return c.verdict(err) // it was cut before
		}
		bad = fmt.Sprintf("%x", frame)
	} else {
		bad = pick(c.rand, badTexts)
		frame := strings.NewReplacer("NEXT", fmt.Sprint(c.sent+1), "GAP", fmt.Sprint(c.sent+3), "AHEAD", fmt.Sprint(c.at+1<<20)).Replace(bad)
		err := w.write([]byte(frame))
		var closed *closedError
		if errors.As(err, &closed) {
			return c.punished(closed)
		}
		if err != nil {
			return c.verdict(err)
		}
	}
	for {
		p, err := w.read(patience)
		var closed *closedError
		switch {
		case errors.As(err, &closed):
			return c.punished(closed)
		case errors.Is(err, errQuiet):
			return wrong("the host did not mind %.80q", bad)
		case err != nil:
			return c.verdict(err) // the connection was over for another reason
		}
		var f received
		if err := json.Unmarshal(p, &f); err != nil {
			return wrong("a frame is no JSON: %q", p)
		}
		if f.N > 0 {
			if err := c.take(&f); err != nil {
				return err
			}
		}
	}
}

// punished: the verdict must be one that fits, or the connection was over before.
func (c *client) punished(closed *closedError) error {
	c.tally.closed(closed)
	switch closed.code {
	case 1002, 1007, 1009, 3500, 3505:
		c.tally.punished.Add(1)
		return nil
	}
	return c.verdict(closed)
}

var huge = strings.Repeat("x", messageLimit+1)

// badTexts break the push protocol; badFrames that of WebSocket.
var (
	badTexts = []string{
		`{`, `[]`, `nul`, `{"c":NEXT,"c":NEXT,"m":1}`, `{"c":NEXT,"m":1,"q":2}`, `{"c":GAP,"m":1}`, `{"a":AHEAD}`, `{"a":-1}`, `{"c":1e3,"m":1}`,
		`{"t":"hello","v":1,"page":"x","client":"y"}`, `{"m":1}`, `{"c":NEXT,"m":"` + huge + `"}`, `{"c":NEXT,"x":GAP}`, `{"c":NEXT,"m":{"a":"\ud800` + "\n" + `"}}`,
	}
	badFrames = [][]byte{
		{0x81, 0x02, '{', '}'},                                     // not masked
		{0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},        // a length with the highest bit
		{0x81, 0xff, 0, 0, 0xff, 0, 0, 0, 0, 0, 1, 2, 3, 4},        // 2^40 bytes
		{0xf1, 0x80, 1, 2, 3, 4},                                   // reserved bits
		{0x83, 0x80, 1, 2, 3, 4},                                   // a reserved opcode
		{0x80, 0x80, 1, 2, 3, 4},                                   // nothing to continue
		{0x09, 0x80, 1, 2, 3, 4},                                   // half a ping
		{0x89, 0xfe, 0, 126, 1, 2, 3, 4},                           // a long ping
		{0x88, 0x81, 1, 2, 3, 4, 5},                                // half a close code
		{0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28},                       // not UTF-8
		{0x82, 0x82, 0, 0, 0, 0, '{', '}'},                         // binary
		{0x01, 0x81, 0, 0, 0, 0, '{', 0x81, 0x81, 0, 0, 0, 0, '}'}, // a message inside a message
	}
)
