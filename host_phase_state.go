package guado

import (
	"context"
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
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/statefile"
)

// phases is what is known of the steps between phases. All configurations have it in common.
type phases struct {
	crossing atomic.Pointer[crossing]     // under way; nil: none
	resident atomic.Pointer[pages.Status] // how pages were when they became resident; nil: they were at the start
	closing  atomic.Pointer[host]         // whose workers run the last turns of pages; nil: there are more to come

	mu     sync.Mutex // guards all below
	givers map[uint64]*giver
	came   chan struct{} // closed when another one waits; nil: nobody looks
	last   *Handed       // of the last step
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
	if p.came != nil {
		close(p.came)
		p.came = nil
	}
	return g
}

// await returns when a worker of a group can give its items back.
func (p *phases) await(ctx context.Context, group string) error {
	for {
		p.mu.Lock()
		for _, g := range p.givers {
			if g.group == group && g.open {
				p.mu.Unlock()
				return nil
			}
		}
		if p.came == nil {
			p.came = make(chan struct{})
		}
		came := p.came
		p.mu.Unlock()
		select {
		case <-came:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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

// handedMark is what the mark says.
type handedMark struct {
	Handed
	File string `json:"file,omitempty"` // the configuration
}

// untaken reports whether nobody has taken over the register of before.
func untaken(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, markerFile))
	return errors.Is(err, os.ErrNotExist)
}

// readMark reads the mark; nil: there is none.
func readMark(dir string) (*handedMark, error) {
	path := filepath.Join(dir, markerFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // nobody has taken anything over
	}
	mark := &handedMark{}
	if err == nil && json.Unmarshal(text, mark) != nil {
		*mark = handedMark{} // that it is there says enough
	}
	return mark, err
}

// mark says that items of the register of before are here, and nowhere else from now on: all
// that they are made of must be kept by now.
func (h *host) mark(done *Handed) error {
	if err := h.kept.sync(); err != nil {
		return err
	}
	text, err := json.Marshal(handedMark{*done, absolute(h.config.File)})
	if err != nil {
		return fmt.Errorf("encode what was taken over: %w", err)
	}
	return statefile.Replace(filepath.Join(h.config.Server.StateDir, markerFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// unmark says that the register of before has its items again.
func (h *host) unmark() error {
	err := statefile.Remove(filepath.Join(h.config.Server.StateDir, markerFile))
	if err != nil {
		return fmt.Errorf("take the mark of items that are here away: %w", err)
	}
	return nil
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
