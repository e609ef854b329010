package guado

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/admin"
)

var (
	errNobody = errors.New("no such group or executor")
	errAlone  = errors.New("guado dev runs one worker of each group")
	errState  = errors.New("the group has users, connections and pages, and so one worker")
)

// scale gives a group, or an executor, another number of workers, as a reload would whose
// file says so. The next reload goes by the file again.
func (h *host) scale(ctx context.Context, name string, workers int) (*Reload, error) {
	ctx, done, err := h.reloads.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	began := time.Now()
	h = h.now()
	switch {
	case h.state.Load() == Starting:
		return nil, errStarting
	case h.config.Dev:
		return nil, errAlone
	}
	c := *h.config
	c.Groups, c.Executors = slices.Clone(c.Groups), slices.Clone(c.Executors)
	if g, e := c.Group(name), c.Executor(name); e != nil {
		e.Processes = workers
	} else if g != nil && g.Name == h.config.StateGroup() && workers != 1 {
		return nil, fmt.Errorf("%w: %q", errState, name)
	} else if g != nil {
		g.Workers = workers
	} else {
		return nil, fmt.Errorf("%w: %q", errNobody, name)
	}
	answer, err := h.become(ctx, &c)
	if err != nil {
		return nil, err
	}
	answer.Seconds = math.Round(time.Since(began).Seconds()*1000) / 1000
	if len(answer.Changes) == 0 {
		return answer, nil
	}
	h.log.Info("the number of workers is another one, until the next reload", "group", name, "workers", workers)
	return answer, nil
}

// askScale is the action of the admin interface.
func (h *host) askScale(ctx context.Context, c admin.Call) (any, error) {
	var order struct {
		Workers int `json:"workers"`
	}
	if err := c.Body(&order); err != nil {
		return nil, err
	}
	if order.Workers < 1 {
		return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: `the body must say how many: {"workers": 3}`}
	}
	answer, err := h.scale(ctx, c.Name("name"), order.Workers)
	switch {
	case errors.Is(err, errNobody):
		return nil, admin.NotFound("group", c.Name("name"))
	case err != nil:
		return nil, unchanged(ctx, err)
	}
	return answer, nil
}
