package guado

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/guado-server/guado/internal/durable"
	"github.com/guado-server/guado/internal/gate"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/statefile"
)

// What a start below phase 4 does with what a server of phase 4 and above has left: a step back
// was taken in the file alone, or the server was killed in it. Items that nobody has given back
// are given back before anybody is served; what is left of those that were is forgotten, or the
// next step forward would bring it back.

// errNotGivenBack is why a server below phase 4 does not serve.
var errNotGivenBack = errors.New("the items that the register of before is to have again are still here")

// unfinished gives the configuration with which the server has to begin to take the step back
// to its end; nil: it is not in one.
func (s *Server) unfinished(c *Config) (*Config, error) {
	if c.Server.Phase >= phaseStores {
		return nil, nil //nolint:nilnil // they are where they belong
	}
	dir := c.StateOfPages()
	mark, err := readMark(dir)
	switch {
	case err != nil:
		return nil, err
	case mark == nil:
		return nil, nil //nolint:nilnil // the register of before has them
	case c.Server.Phase == 0 && mark.File != "" && mark.File != absolute(c.File):
		// From phase 3 on the folder is this server's alone.
		s.Log.Warn("the state folder has items of another configuration's register of before; if this is the same site, start it once with that file, and the phase of this one in it", "folder", dir, "file", mark.File)
		return nil, nil //nolint:nilnil // of somebody else
	}
	at := filepath.Join(dir, markerFile)
	if !hasState(dir) {
		return nil, fmt.Errorf("%w, but lost: the server was killed, and what it has in memory is kept with state.durability = \"host\" alone. "+
			"The register of before has what it had %s. To go on with that, remove %s; to have everybody log in again, start with server.phase = 4 and take the step back from there (guado migrate rollback)",
			errNotGivenBack, mark.At.Local().Format("on 2006-01-02 at 15:04:05"), at)
	}
	up := c.Raised(phaseStores)
	if up == nil {
		return nil, fmt.Errorf("%w, and nothing says which group has them: say state = true there, or remove %s if they are to be lost", errNotGivenBack, at)
	}
	return up, nil
}

// absolute makes the name of a configuration the same wherever it is read from.
func absolute(file string) string {
	if whole, err := filepath.Abs(file); err == nil && file != "" {
		return whole
	}
	return file
}

// hasState reports whether something is there of what a server had that has ended.
func hasState(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "connections")); err == nil {
		return true
	}
	is, err := durable.Exists(filepath.Join(dir, "log"))
	return is || err != nil // it cannot be read: who begins to will say so
}

// finishStep gives the items back, before anybody is served, and goes on in the phase of the
// configuration.
func (h *host) finishStep(ctx context.Context, held []*group) error {
	below := h.below
	if below == nil {
		return nil
	}
	h.log.Info("a step back was not taken to its end: the items of the register of before are given back first", "phase", below.Server.Phase)
	for _, g := range held {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-g.workers.FirstBoot():
			if err != nil {
				return fmt.Errorf("%w: %w", errNotGivenBack, err)
			}
		}
	}
	ctx, done, err := h.reloads.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := h.become(ctx, below); err != nil {
		return fmt.Errorf("%w: %w. Mend that and start again; or start with server.phase = 4, where they are served", errNotGivenBack, err)
	}
	h.gate.Resume()
	return nil
}

// waitForStep holds requests until the step is taken.
func (h *host) waitForStep() error {
	if h.below == nil {
		return nil
	}
	_ = h.gate.Pause(gate.Hold{}) // nobody else can have paused it yet
	if h.kept.keeps() {
		return nil
	}
	return h.copyState() // as long as it is not given back, a crash must not lose it
}

// leaveStores notes, before what is kept is begun, what there is of stores that nobody has in
// this phase.
func (h *host) leaveStores() {
	if h.pages == nil || h.config.Server.Phase >= phaseStores {
		return
	}
	if found := h.kept.found; found != nil {
		for key := range found.Items {
			if key.Kind > kindStore || key.Kind == kindGlobal {
				h.kept.left = append(h.kept.left, key)
			}
		}
		for _, key := range found.Damaged {
			if key.Kind > kindStore || key.Kind == kindGlobal {
				h.kept.left = append(h.kept.left, key)
			}
		}
	}
	for _, name := range []string{"mirror", "global"} {
		switch err := os.Remove(filepath.Join(h.config.Server.StateDir, name)); {
		case err == nil:
			h.kept.leaves = true
		case !errors.Is(err, fs.ErrNotExist):
			h.log.Error("a file of phase 4 cannot be removed; the next step there would bring back what it has", "error", err)
		}
	}
	h.kept.leaves = h.kept.leaves || len(h.kept.left) > 0
}

// forgetStores ends them, and the items that came with them, once all that changes is kept.
func (h *host) forgetStores() {
	if !h.kept.leaves {
		return
	}
	h.log.Warn("what stores of phase 4 held has ended with this start", "phase", h.config.Server.Phase)
	for _, id := range h.identity.Given() {
		h.registry.Drop(item.Connection, id, true)
	}
	if log := h.kept.log.Load(); log != nil {
		for _, key := range h.kept.left {
			log.Append(durable.Change{Key: key, Op: durable.Drop})
		}
	}
	h.kept.left = nil
}

// siteFile names the configuration that has the state folder. Another one beside it may be the
// trial of something else, in the same folder and in phase 0, which has no part in it.
const siteFile = "site"

// signFolder says whose state the folder holds.
func (h *host) signFolder() error {
	path, name := filepath.Join(h.config.Server.StateDir, siteFile), absolute(h.config.File)
	if was, err := os.ReadFile(path); err == nil && string(was) == name+"\n" {
		return nil
	}
	return statefile.Replace(path, func(w io.Writer) error {
		_, err := io.WriteString(w, name+"\n")
		return err
	})
}

// forgetClients is what a start in phase 0 is also where it is a step back: whoever was logged
// in before must not be at the next step forward, for nobody hears of logouts in between.
func (s *Server) forgetClients(c *Config) error {
	dir, name := c.StateOfPages(), absolute(c.File)
	was, err := os.ReadFile(filepath.Join(dir, siteFile))
	if c.Server.Phase > 0 || name == "" || err != nil || string(was) != name+"\n" {
		return nil //nolint:nilerr // nobody has signed the folder
	}
	unlock, err := identity.Lock(dir)
	if err != nil {
		s.Log.Warn("the state of phase 3 and above is in use by another server: it is left as it is", "folder", dir, "error", err)
		return nil
	}
	defer unlock()
	if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
		return err
	}
	for _, file := range append(slices.Clone(stateFiles), siteFile) {
		if err := statefile.Remove(filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	s.Log.Info("phase 0 knows no clients: those of before are forgotten", "folder", dir)
	return nil
}
