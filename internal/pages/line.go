package pages

import (
	"slices"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// line runs jobs in their order, some at once. Its goroutines live while there are jobs.
// Its page's lock guards it.
type line struct {
	width   int
	running int
	waiting []*job
	under   []*job
}

// job is something that a page has to do.
type job struct {
	ref    push.Ref           // of the client's message; zero: it is the host's own
	do     *turn              // a turn of a handler; nil: a request
	held   *hold              // a turn that a request has; nil: none of these
	to     string             // of a request
	user   string             // of the client, when the message came
	data   []byte             // of the message
	reply  bool               // somebody waits for what comes of it
	done   func(o outcome)    // hears what came of it; nil: nobody does
	under  *exchange.Exchange // by which it runs; nil: it does not, or has ended
	gone   bool               // nobody waits for it any more
	undone bool               // it was not begun before the host stopped

	restored bool // it was let in before the start

	// Of one that has its place in a line.
	page *page
	at   **line
	line *line

	// Of a turn that is with a worker while no goroutine waits for it.
	flight Flight
	x      *exchange.Exchange
	call   *call
	halves atomic.Int32 // it was sent; its exchange rang: whoever is second goes on
}

// add puts a job into a line; false: it is full. Jobs of the host always find a place.
func (pg *page) add(l **line, width int, j *job) bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.addLocked(l, width, j)
}

func (pg *page) addLocked(at **line, width int, j *job) bool {
	begins, ok := pg.placeLocked(at, width, j)
	if begins {
		pg.pages.work.resume(j)
	}
	return ok
}

// placeLocked is addLocked but for the goroutine; begins: it is the job's turn to run.
func (pg *page) placeLocked(at **line, width int, j *job) (begins, ok bool) {
	if *at == nil {
		*at = &line{width: width}
	}
	l := *at
	j.page, j.at, j.line = pg, at, l
	bounded := j.ref.ID != 0 && !j.restored
	if bounded && !pg.room(j) {
		return false, false
	}
	if l.running < l.width && pg.pages.work.enter() {
		begins = true
		l.running++
		l.under = append(l.under, j)
	} else if bounded && len(l.waiting) >= mostWaiting {
		return false, false
	} else {
		l.waiting = append(l.waiting, j)
	}
	pg.hold(j.size())
	if !begins {
		j.touched()
	}
	return begins, true
}

// size is how much a client has the host keep.
func (j *job) size() int {
	if j.ref.ID == 0 {
		return 0
	}
	return len(j.data)
}

// room reports whether a message is not too much: for its page, which may always have one,
// or for all of them together. Also what runs counts: it may wait behind other pages.
func (pg *page) room(j *job) bool {
	p, n := pg.pages, j.size()
	o := p.hub.Options()
	return (pg.bytes == 0 || pg.bytes+n <= o.Waiting+o.Message) && p.bytes.Load()+int64(n) <= p.opts.Held
}

func (pg *page) hold(n int) {
	pg.bytes += n
	pg.pages.bytes.Add(int64(n))
}

// run does a job and then those that wait.
func (j *job) run() {
	pg, at, l := j.page, j.at, j.line
	for {
		if j.flight != nil {
			pg.land(j)
		} else {
			pg.do(j)
		}
		pg.mu.Lock()
		l.under = slices.DeleteFunc(l.under, func(o *job) bool { return o == j })
		if j.undone {
			l.waiting = slices.Insert(l.waiting, 0, j)
		} else {
			pg.hold(-j.size())
		}
		if len(l.waiting) == 0 || pg.pages.stopping() {
			l.running--
			if l.running == 0 && len(l.waiting) == 0 {
				*at = nil // an idle page pays nothing for it
			}
			pg.mu.Unlock()
			return
		}
		j = l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		l.under = append(l.under, j)
		j.touched()
		pg.mu.Unlock()
	}
}

// touched says that it waits, or does not any more: a message that waits is kept.
func (j *job) touched() {
	if j.ref.ID != 0 && !j.reply {
		j.page.touched()
	}
}

// find looks for a client's message.
func (l *line) find(ref push.Ref) *job {
	if l == nil {
		return nil
	}
	for _, list := range [][]*job{l.under, l.waiting} {
		if i := slices.IndexFunc(list, func(j *job) bool { return j.ref == ref }); i >= 0 {
			return list[i]
		}
	}
	return nil
}

// has reports whether a turn of this kind waits.
func (l *line) has(do exchange.TurnKind) bool {
	return l != nil && slices.ContainsFunc(l.waiting, func(j *job) bool { return j.do != nil && j.do.do == do })
}
