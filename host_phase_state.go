package guado

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/statefile"
)

// phases is what is known of the steps between phases. All configurations have it in common.
type phases struct {
	crossing atomic.Pointer[crossing] // under way; nil: none

	mu     sync.Mutex // guards all below
	givers map[uint64]*giver
	last   *Handed // of the last step
}

// giver is a worker that gives its items back when it is asked to.
type giver struct {
	group, slot string
	asked       chan struct{} // closed when it is
	told        chan Handed   // one
	open        bool          // it has not been asked
}

// Handed is what became of items that went from one register into the other.
type Handed struct {
	At          time.Time `json:"at"`
	Way         string    `json:"way,omitempty"`
	Items       int       `json:"items"`
	Refused     []string  `json:"refused,omitempty"`     // items that the other register did not take
	Differences []string  `json:"differences,omitempty"` // each begins with the path
	Error       string    `json:"error,omitempty"`
}

// wrong is why a step must not be taken.
func (d *Handed) wrong() error {
	switch {
	case d.Error != "":
		return errors.New(d.Error)
	case len(d.Differences) > 0:
		return fmt.Errorf("%d differences between both registers, the first: %s", len(d.Differences), d.Differences[0])
	}
	return nil
}

// waits notes a worker that can give its items back.
func (p *phases) waits(c calls.Caller) *giver {
	g := &giver{group: c.Group, slot: c.Slot, asked: make(chan struct{}), told: make(chan Handed, 1), open: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.givers == nil {
		p.givers = map[uint64]*giver{}
	}
	p.givers[c.Worker] = g
	return g
}

func (p *phases) gone(worker uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.givers, worker)
}

// ask has all workers of a group give their items back.
func (p *phases) ask(group string) (all []*giver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := map[string]uint64{} // of each slot: one that was replaced may still be on its way out
	for worker, g := range p.givers {
		if g.group == group && g.open {
			last[g.slot] = max(last[g.slot], worker)
		}
	}
	for _, worker := range last {
		g := p.givers[worker]
		g.open = false
		close(g.asked)
		all = append(all, g)
	}
	return all
}

// settle takes what a worker says of its items, or that it can say nothing any more.
func (p *phases) settle(worker uint64, done Handed) {
	p.mu.Lock()
	g := p.givers[worker]
	delete(p.givers, worker)
	p.mu.Unlock()
	if g != nil {
		g.told <- done
	}
}

// markerFile stands in the state folder while the items of the register of before are here.
const markerFile = "register"

// untaken reports whether nobody has taken over the register of before.
func (p *phases) untaken(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, markerFile))
	return errors.Is(err, os.ErrNotExist)
}

// took notes that a worker has taken over the register of before.
func (p *phases) took(log *slog.Logger, dir, slot string, done Handed) error {
	p.note(log, "items of the register of before are here", slot, done)
	if done.wrong() != nil {
		return nil //nolint:nilerr // the worker knows it, and ends
	}
	text, err := json.Marshal(done)
	if err != nil {
		return fmt.Errorf("encode what was taken over: %w", err)
	}
	return statefile.Replace(filepath.Join(dir, markerFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// forget takes the mark away: the register of before is in charge again.
func (p *phases) forget(log *slog.Logger, dir string) {
	if err := os.Remove(filepath.Join(dir, markerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Error("the next step forward will not take the register over; remove the file by hand", "error", err)
	}
}

// mostTold is how many differences and refused items the log names.
const mostTold = 20

func (p *phases) note(log *slog.Logger, way, slot string, done Handed) {
	done.At, done.Way = time.Now(), way
	p.mu.Lock()
	p.last = &done
	p.mu.Unlock()
	if done.Error != "" {
		log.Error(strings.Replace(way, " were ", " could not be ", 1), "worker", slot, "error", done.Error)
		return
	}
	log.Info(way, "worker", slot, "items", done.Items, "refused", len(done.Refused), "differences", len(done.Differences))
	for i, what := range done.Refused {
		if i < mostTold {
			log.Warn("an item was not taken", "item", what)
		}
	}
	for i, what := range done.Differences {
		if i < mostTold {
			log.Error("both registers differ", "at", what)
		}
	}
}

// handed is what became of the last step; nil: there was none.
func (p *phases) handed() *Handed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return nil
	}
	last := *p.last
	return &last
}

// giving reports whether some worker can give items back.
func (p *phases) giving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.givers) > 0
}
