package guado

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/program"
)

// hostSource is the name of what the host logs itself.
const hostSource = "host"

// sources gives what a name means of which somebody wants the log: an app's lines are
// those of its group's workers, who cannot be told apart by what they print.
func (h *host) sources(name string) ([]string, error) {
	h = h.now()
	if a := h.config.App(name); a != nil && a.Group != name {
		return []string{name, a.Group}, nil
	}
	names := []string{hostSource}
	for _, g := range h.groups {
		names = append(names, g.config.Name)
		names = append(names, g.slots...)
	}
	for i := range h.config.Apps {
		names = append(names, h.config.Apps[i].Name)
	}
	for i := range h.config.Executors {
		names = append(names, h.config.Executors[i].Name)
	}
	for _, p := range h.programs.Status(0) {
		names = append(names, p.Program, p.Name)
	}
	if slices.Contains(names, name) || h.journal.Knows(name) {
		return []string{name}, nil
	}
	slices.Sort(names)
	return nil, &admin.Refusal{
		Status: http.StatusNotFound, Code: "unknown_source",
		Message: fmt.Sprintf("there is no worker, group, app or program %q; there are %s", name, strings.Join(slices.Compact(names), ", ")),
	}
}

// own lets the lines of a program's instances be found by its name.
func (h *host) own(specs []program.Spec) {
	for i := range specs {
		h.journal.Belongs(specs[i].Name, specs[i].Program)
	}
}
