package guado

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/mirror"
)

// Applications of other groups have no stores of their own: they read the host's copy, and
// what they write is done by the worker that has the store.

// writes are those that a worker of the state group has to do and has not acknowledged.
type writes struct {
	last uint64
	open map[uint64]*write
}

type write struct {
	to    *link.Link
	owner string
	done  chan applied // one
}

// applied is what a worker says of a write.
type applied struct {
	Number  uint64          `json:"number"`
	Results json.RawMessage `json:"results"`
	Code    string          `json:"code"`
	Text    string          `json:"text"`
}

// writePatience is what a write waits for a store's lock where it does not say, and
// writeSlack what the way there and back may take beside.
const (
	writePatience = 30 * time.Second
	writeSlack    = 15 * time.Second
)

func (h *host) openRemoteStores() {
	h.stores.writes.open = map[uint64]*write{}
	h.calls.Handle("store.read", h.callStoreRead)
	h.calls.Handle("store.write", h.callStoreWrite)
	h.calls.Handle("store.applied", h.callStoreApplied)
}

// callStoreRead gives what is at a path of the host's copy.
func (h *host) callStoreRead(_ context.Context, _ calls.Caller, data []byte) (any, error) {
	var want struct {
		Kind mirror.Kind `json:"kind"`
		ID   string      `json:"id"`
		Path []string    `json:"path"`
	}
	if err := calls.Decode(data, &want); err != nil {
		return nil, err
	}
	ref := mirror.Ref{Kind: want.Kind, ID: want.ID}
	if _, err := h.storeOwner(ref); err != nil {
		return nil, err
	}
	value, ok, err := h.stores.mirror.Value(ref, want.Path)
	switch {
	case errors.Is(err, mirror.ErrNoStore):
		if len(want.Path) == 0 {
			return map[string]any{"found": true, "value": struct{}{}}, nil // nobody has written to it yet
		}
		return map[string]any{"found": false}, nil
	case err != nil:
		return nil, err
	case !ok:
		return map[string]any{"found": false}, nil
	}
	return map[string]any{"found": true, "value": json.RawMessage(value)}, nil
}

// callStoreWrite has the worker that has a store write to it. Writes of one worker are done in
// the order in which it asks for them.
func (h *host) callStoreWrite(_ context.Context, _ calls.Caller, data []byte) (any, error) {
	var want struct {
		Kind    mirror.Kind     `json:"kind"`
		ID      string          `json:"id"`
		Ops     json.RawMessage `json:"ops"`
		Timeout int64           `json:"timeout_ms"`
	}
	if err := calls.Decode(data, &want); err != nil {
		return nil, err
	}
	patience := time.Duration(want.Timeout) * time.Millisecond
	if want.Timeout <= 0 || want.Timeout > time.Hour.Milliseconds() {
		patience = writePatience
	}
	ref := mirror.Ref{Kind: want.Kind, ID: want.ID}
	owner, err := h.storeOwner(ref)
	if err != nil {
		return nil, err
	}
	number, one, err := h.stores.write(h.writer(owner), owner, ref, want.Ops, patience)
	if err != nil {
		return nil, err
	}
	return calls.Later(func(ctx context.Context) (any, error) {
		defer h.stores.forgetWrite(number, one)
		late := time.NewTimer(patience + writeSlack)
		defer late.Stop()
		select {
		case said := <-one.done:
			if said.Code != "" {
				return nil, calls.Errorf(http.StatusConflict, said.Code, "%s", said.Text)
			}
			return map[string]any{"results": said.Results}, nil
		case <-one.to.Done():
			return nil, calls.Errorf(http.StatusBadGateway, "worker_died", "the worker that has the store ended before it said that it had written: nobody knows whether it did")
		case <-late.C:
			return nil, calls.Errorf(http.StatusGatewayTimeout, "deadline", "the worker that has the store has not written in time, and may do so yet")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}), nil
}

// writer is the worker that writes to stores of a user: the one that has them, as long as it
// has requests of the user or takes new ones; else the one to which the user's next request
// goes. nil: there is none now.
func (h *host) writer(owner string) *link.Link {
	s := h.stores
	s.mu.Lock()
	k := s.owners[owner]
	if k != nil && k.ended {
		k = nil
	}
	var has *link.Link
	busy := false
	if k != nil {
		has, busy = k.link, k.running[owner] > 0
	}
	s.mu.Unlock()
	if busy {
		return has
	}
	for _, g := range h.now().groups {
		if g.config.Name == h.now().config.StateGroup() {
			return g.pool.Taking(has)
		}
	}
	return nil
}

// write sends a write to a worker, behind the store itself where it does not have it yet.
// While the worker is at it the user stays there, as with a request.
func (s *stores) write(to *link.Link, owner string, ref mirror.Ref, ops json.RawMessage, patience time.Duration) (uint64, *write, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keepers[to]
	if k == nil || k.ended {
		return 0, nil, calls.Errorf(http.StatusServiceUnavailable, "no_worker", "the worker that has the store is not there now; try again")
	}
	k.own(owner)
	if err := k.restore(owner, ref, true); err != nil {
		return 0, nil, err
	}
	s.writes.last++
	number := s.writes.last
	payload, err := json.Marshal(map[string]any{"number": number, "kind": ref.Kind, "id": ref.ID, "ops": ops, "patience_ms": patience.Milliseconds()})
	if err == nil {
		err = k.link.Apply(payload)
	}
	if err != nil {
		return 0, nil, err
	}
	one := &write{to: k.link, owner: owner, done: make(chan applied, 1)}
	s.writes.open[number] = one
	k.running[owner]++
	return number, one, nil
}

// forgetWrite is told that nobody waits for a write any more: it was done, or is late.
func (s *stores) forgetWrite(number uint64, one *write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writes.open, number)
	if k := s.keepers[one.to]; k != nil {
		k.through(one.owner)
	}
}

// callStoreApplied hears that a worker has written, and that the host's copy has it.
func (h *host) callStoreApplied(_ context.Context, c calls.Caller, data []byte) (any, error) {
	var said applied
	if err := calls.Decode(data, &said); err != nil {
		return nil, err
	}
	s := h.stores
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.writes.open[said.Number]; one != nil && one.to == c.Link {
		delete(s.writes.open, said.Number)
		one.done <- said
	}
	return nil, nil //nolint:nilnil // there is nothing to tell
}
