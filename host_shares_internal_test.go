package guado

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/pages"
)

// mostPatience is how long anything may take that a test waits for.
const mostPatience = 30 * time.Second

var errNoDisk = errors.New("the disk is full")

// sharedPage is a page that shares a path with its client, and what tells the client; what it is
// told must be kept first, which takes as long as wait does.
func sharedPage(t *testing.T, how string, wait func() error) (s *shares, page string) {
	t.Helper()
	p := pages.New(pages.Options{NewID: identity.NewID})
	t.Cleanup(p.Close)
	page, err := p.Open(pages.Opening{Connection: "c", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	s = &shares{mirror: mirror.New(0, mirror.Limits{}), pages: p, wait: wait}
	record := binary.LittleEndian.AppendUint32([]byte{10, 0}, uint32(len(how))) // protocol/store.md, section 7
	if err := s.mirror.Restore("u", mirror.Ref{Kind: mirror.Page, ID: page}, append(record, how...)); err != nil {
		t.Fatal(err)
	}
	return s, page
}

// ended waits for the end of what a test has begun.
func ended(t *testing.T, what string, over <-chan struct{}) {
	t.Helper()
	select {
	case <-over:
	case <-time.After(mostPatience):
		t.Fatalf("%s does not end", what)
	}
}

// Two wait for the same change. The first one gives it; the second one may not give what came
// behind it, for which nobody has waited.
func TestAClientIsToldOnlyWhatSomebodyHasWaitedFor(t *testing.T) {
	entered := make(chan chan error)
	s, page := sharedPage(t, `{"path":["a"]}`, func() error {
		kept := make(chan error)
		entered <- kept
		return <-kept
	})
	s.mirror.Shared(page)
	settle := func() (kept chan error, over chan struct{}) {
		over = make(chan struct{})
		go func() {
			defer close(over)
			s.settle()
		}()
		return <-entered, over
	}
	kept, over := settle()
	keptToo, overToo := settle()
	kept <- nil
	ended(t, "the first one", over)
	if n := s.mirror.Queued(); n != 0 {
		t.Errorf("change %d is kept, and not told", n)
	}
	s.mirror.Shared(page)
	keptToo <- nil
	ended(t, "the second one", overToo)
	if s.mirror.Queued() == 0 {
		t.Fatal("a change was told for which nobody has waited")
	}
	// Nor may who waits give what takes the place of what it waits for.
	kept, over = settle()
	s.mirror.Anew()
	kept <- nil
	ended(t, "the third one", over)
	if s.mirror.Queued() == 0 {
		t.Fatal("all that is shared was told, and nobody has waited for it")
	}
	kept, over = settle()
	kept <- nil
	ended(t, "the last one", over)
	if n := s.mirror.Queued(); n != 0 {
		t.Errorf("change %d is kept, and not told", n)
	}
}

// What cannot be kept when the host stops is with the session then, whose client is gone.
func TestAStopEndsThoughNothingOfWhatIsSharedCanBeKept(t *testing.T) {
	var tries atomic.Int64
	var stopped atomic.Bool
	failed := make(chan struct{}, 1)
	s, page := sharedPage(t, `{"path":["a"]}`, func() error {
		if tries.Add(1) == 1 {
			failed <- struct{}{}
		}
		if stopped.Load() {
			return nil // so that also a test that fails has an end
		}
		return errNoDisk
	})
	s.mirror.Shared(page)
	s.committed()
	ended(t, "the first try", failed)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	defer stopped.Store(true)
	s.pages.Stop(now)
	frozen := make(chan struct{})
	go func() {
		defer close(frozen)
		s.pages.Freeze()
	}()
	ended(t, "the stop", frozen)
	if n := tries.Load(); n > 2 {
		t.Errorf("%d tries in no time", n)
	}
	if n := s.mirror.Queued(); n != 0 || s.running.Load() {
		t.Errorf("change %d is with nobody", n)
	}
}

// An answer that cannot be given takes nothing with it.
func TestAClientThatAsksGetsBehindA503WhatItWasNotGiven(t *testing.T) {
	var full atomic.Bool
	s, page := sharedPage(t, `{"path":["a"],"over":"requests"}`, nil)
	serve := &pages.Shared{
		Pages: s.pages, HandOut: s.mirror.HandOut, Acknowledge: s.mirror.Acknowledge,
		Known: func(*exchange.Exchange) string { return "c" },
		Kept: func() error {
			if full.Load() {
				return errNoDisk
			}
			return nil
		},
	}
	ask := func() string {
		x, answer := exchange.New(), &exchange.Collected{Limit: 1 << 10}
		x.Method, x.GuadoPage, x.Answer = "GET", []byte(page), answer
		serve.Serve(x)
		if answer.Refused != nil {
			return answer.Refused.Code
		}
		list, _, _ := strings.Cut(string(answer.Body), `,"number"`)
		return fmt.Sprintf("%d %s", answer.Status, list)
	}
	for i, want := range []string{"durability_unavailable", `200 {"changes":[{"path":["a"],"delete":true}]`, `200 {"changes":[]`} {
		full.Store(i == 0)
		if got := ask(); got != want {
			t.Errorf("answer %d: %s, want %s", i, got, want)
		}
	}
}
