package guado

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/globalstore"
	"github.com/guado-server/guado/internal/link"
)

// phaseStores is the phase from which on the host keeps stores.
const phaseStores = 4

// GlobalStatus is how the global store of a host is.
type GlobalStatus = globalstore.Status

// openGlobal makes the global store. All configurations have it in common.
func (h *host) openGlobal() {
	if h.config.Server.Phase < phaseStores || h.global != nil {
		return
	}
	h.global = globalstore.New(globalstore.Options{Log: h.log, Clock: h.clock, Touched: h.touchedGlobal(), Limits: func() globalstore.Limits {
		c := &h.now().config.Global
		return globalstore.Limits{Store: c.Limit.Bytes(), Value: c.Value.Bytes()}
	}})
	for verb, f := range map[string]func(globalAsk) (any, error){
		"global.get": h.globalGet, "global.set": h.globalSet, "global.delete": h.globalDelete,
		"global.compare": h.globalCompare, "global.add": h.globalAdd, "global.default": h.globalDefault,
	} {
		h.calls.Handle(verb, func(_ context.Context, c calls.Caller, data []byte) (any, error) {
			ask, err := globalAsked(c, data)
			if err != nil {
				return nil, err
			}
			answer, err := f(ask)
			return answer, globalError(err)
		})
	}
	h.calls.HandleEnd(func(c calls.Caller) { h.global.Leave(c.Link) })
}

// replicate gives a worker all of the global store behind HELLO, and from then on every
// update.
func (h *host) replicate(l *link.Link) {
	if h.config.Server.Phase >= phaseStores {
		l.BehindHello(func() {
			_ = h.global.Join(l) // a link that has ended says so itself
		})
	}
}

// globalAsk is what a verb of the global store is told.
type globalAsk struct {
	Path  globalstore.Path `json:"path"`
	Value json.RawMessage  `json:"value"`
	Old   json.RawMessage  `json:"old"`
	New   json.RawMessage  `json:"new"`
	By    string           `json:"by"`
	TTL   int64            `json:"ttl_ms"`

	read func([]byte) (globalstore.Value, error)
}

// longestTTL is what can be counted in nanoseconds, and more than anybody means.
const longestTTL = 100 * 365 * 24 * time.Hour

func globalAsked(c calls.Caller, data []byte) (ask globalAsk, err error) {
	if err := calls.Decode(data, &ask); err != nil {
		return ask, err
	}
	switch {
	case !utf8.Valid(data):
		return ask, calls.Errorf(http.StatusBadRequest, "bad_call", "what is asked is not in UTF-8")
	case ask.TTL < 0 || ask.TTL > longestTTL.Milliseconds():
		return ask, calls.Errorf(http.StatusBadRequest, "bad_ttl", "ttl_ms is %d: it is between 0 (for good) and %d (a hundred years)", ask.TTL, longestTTL.Milliseconds())
	}
	ask.read = globalstore.Exact
	if c.Link == nil { // people, and programs in other languages
		ask.read = globalstore.Written
	}
	return ask, nil
}

func (a *globalAsk) ttl() time.Duration { return time.Duration(a.TTL) * time.Millisecond }

// value reads a value that may be left out.
func (a *globalAsk) value(text json.RawMessage) (*globalstore.Value, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // none is a value of its own
	}
	v, err := a.read(text)
	return &v, err
}

// required reads a value that must be there.
func (a *globalAsk) required(text json.RawMessage) (globalstore.Value, error) {
	if text == nil {
		return globalstore.Value{}, calls.Errorf(http.StatusBadRequest, "bad_call", "say which value")
	}
	return a.read(text)
}

func (h *host) globalGet(a globalAsk) (any, error) {
	value, number, ok := h.global.Get(a.Path)
	if !ok {
		return map[string]any{"found": false, "number": number}, nil
	}
	return map[string]any{"found": true, "value": json.RawMessage(value), "number": number}, nil
}

func (h *host) globalSet(a globalAsk) (any, error) {
	v, err := a.required(a.Value)
	if err == nil {
		err = a.Path.Check()
	}
	if err != nil {
		return nil, err
	}
	number, err := h.global.Set(a.Path, v, a.ttl())
	return map[string]any{"number": number}, err
}

func (h *host) globalDelete(a globalAsk) (any, error) {
	was, number, err := h.global.Delete(a.Path)
	return map[string]any{"deleted": was, "number": number}, err
}

func (h *host) globalCompare(a globalAsk) (any, error) {
	before, err := a.value(a.Old)
	if err != nil {
		return nil, err
	}
	after, err := a.value(a.New)
	if err == nil {
		err = a.Path.Check()
	}
	if err != nil {
		return nil, err
	}
	done, number, err := h.global.Compare(a.Path, before, after, a.ttl())
	return map[string]any{"swapped": done, "number": number}, err
}

func (h *host) globalAdd(a globalAsk) (any, error) {
	if err := a.Path.Check(); err != nil {
		return nil, err
	}
	if a.By == "" {
		a.By = "1"
	}
	sum, number, err := h.global.Add(a.Path, a.By, a.ttl())
	return map[string]any{"value": json.RawMessage(sum), "number": number}, err
}

func (h *host) globalDefault(a globalAsk) (any, error) {
	v, err := a.required(a.Value)
	if err == nil {
		err = a.Path.Check()
	}
	if err != nil {
		return nil, err
	}
	made, value, number, err := h.global.Default(a.Path, v, a.ttl())
	return map[string]any{"made": made, "value": json.RawMessage(value), "number": number}, err
}

// noGlobal is why a server has no global store.
func noGlobal() error {
	return &admin.Refusal{Status: http.StatusConflict, Code: "phase", Message: "there is no global store: that begins with server.phase = 4"}
}

// readGlobal gives operators what is at a path of the global store: ?key=cart&key=items, or all
// of it.
func (h *host) readGlobal(c admin.Call) (any, error) {
	if !h.keeps() {
		return nil, noGlobal()
	}
	return h.globalGet(globalAsk{Path: c.Query()["key"]})
}

// globalError gives errors about the global store the codes of link.md.
func globalError(err error) error {
	for _, known := range []struct {
		err    error
		status int
		code   string
	}{
		{globalstore.ErrBadPath, http.StatusBadRequest, "bad_path"},
		{globalstore.ErrBadValue, http.StatusBadRequest, "bad_value"},
		{globalstore.ErrFull, http.StatusInsufficientStorage, "global_full"},
		{globalstore.ErrTooBig, http.StatusRequestEntityTooLarge, "global_too_big"},
		{globalstore.ErrNotDict, http.StatusConflict, "no_dict"},
		{globalstore.ErrNoCounter, http.StatusConflict, "no_counter"},
		{globalstore.ErrClosed, http.StatusServiceUnavailable, "stopping"},
	} {
		if errors.Is(err, known.err) {
			return calls.Errorf(known.status, known.code, "%v", err)
		}
	}
	return err
}

// restoreGlobal takes back what a graceful stop has saved, before anybody can ask for it.
func (h *host) restoreGlobal() {
	if h.global == nil {
		return
	}
	if h.kept.found != nil {
		h.recoverGlobal()
		return
	}
	n, err := h.global.Restore(h.config.Server.StateDir)
	if err != nil {
		h.log.Error("global store of before", "error", err)
	}
	if n > 0 {
		h.log.Info("the global store of before is there again", "values", n)
	}
}

// saveGlobal writes the global store, once nobody can change it any more.
func (h *host) saveGlobal() error {
	if h.global == nil {
		return nil
	}
	h.global.Close()
	if h.kept.keeps() {
		return nil
	}
	return h.global.Save(h.config.Server.StateDir)
}

func (h *host) closeGlobal() {
	if h.global != nil {
		h.global.Close()
	}
}

func (h *host) globalStatus() *GlobalStatus {
	if !h.keeps() {
		return nil
	}
	st := h.global.Status()
	return &st
}
