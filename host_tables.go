package guado

import (
	"context"
	"errors"
	"net/http"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/events"
)

// openTables makes what a server has of changes of database tables, where it has events.
func (h *host) openTables() {
	h.tables = h.events.NewTables(func() events.TableLimits {
		c := &h.now().config.Events
		return events.TableLimits{Interval: c.TableInterval.Std(), Changes: c.TableChanges}
	})
	h.calls.Handle("dbevent", h.callTables)
}

// callTables takes what one transaction did: a change of one table, or several.
func (h *host) callTables(_ context.Context, _ calls.Caller, data []byte) (any, error) {
	var what struct {
		events.TableChange
		Changes []events.TableChange `json:"changes"`
	}
	if err := calls.Decode(data, &what); err != nil {
		return nil, err
	}
	changes := what.Changes
	if changes == nil {
		changes = []events.TableChange{what.TableChange}
	}
	err := h.tables.Changed(changes)
	switch {
	case errors.Is(err, events.ErrBadChange):
		return nil, calls.Errorf(http.StatusBadRequest, "bad_change", "%v", err)
	case errors.Is(err, events.ErrTooManyTables):
		return nil, calls.Errorf(http.StatusServiceUnavailable, "too_many_tables", "%v", err)
	}
	return nil, eventError(err)
}
