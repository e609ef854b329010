package pages

import (
	"slices"

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
	ref    push.Ref        // of the client's message; zero: it is the host's own
	do     *turn           // a turn of a handler; nil: a request
	to     string          // of a request
	user   string          // of the client, when the message came
	data   []byte          // of the message
	reply  bool            // somebody waits for what comes of it
	done   func(o outcome) // hears what came of it; nil: nobody does
	cancel func()          // ends it while it runs; nil: it does not, or has ended
	gone   bool            // nobody waits for it any more
	undone bool            // it was not begun before the host stopped
}

// add puts a job into a line; false: it is full. Jobs of the host always find a place.
func (pg *page) add(l **line, width int, j *job) bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.addLocked(l, width, j)
}

func (pg *page) addLocked(at **line, width int, j *job) bool {
	if *at == nil {
		*at = &line{width: width}
	}
	l := *at
	if l.running < l.width && pg.pages.work.begin(func() { pg.run(at, l, j) }) {
		l.running++
		l.under = append(l.under, j)
		return true
	}
	if j.ref.ID != 0 && (len(l.waiting) >= mostWaiting || !pg.pages.room(&pg.bytes, len(j.data))) {
		return false
	}
	l.waiting = append(l.waiting, j)
	return true
}

// room counts what waits for a page, unless it is too much: for this page, which may always
// have one message, or for all of them together. Under the page's lock.
func (p *Pages) room(bytes *int, n int) bool {
	if *bytes > 0 && *bytes+n > p.hub.Options().Waiting || p.bytes.Load()+int64(n) > mostBytes {
		return false
	}
	p.take(bytes, n)
	return true
}

func (p *Pages) take(bytes *int, n int) {
	*bytes += n
	p.bytes.Add(int64(n))
}

// run does a job and then those that wait.
func (pg *page) run(at **line, l *line, j *job) {
	for {
		pg.do(j)
		pg.mu.Lock()
		l.under = slices.DeleteFunc(l.under, func(o *job) bool { return o == j })
		if j.undone {
			l.waiting = slices.Insert(l.waiting, 0, j)
			pg.pages.take(&pg.bytes, len(j.data))
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
		if j.ref.ID != 0 {
			pg.pages.take(&pg.bytes, -len(j.data))
		}
		l.under = append(l.under, j)
		pg.mu.Unlock()
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
func (l *line) has(do string) bool {
	return l != nil && slices.ContainsFunc(l.waiting, func(j *job) bool { return j.do != nil && j.do.do == do })
}
