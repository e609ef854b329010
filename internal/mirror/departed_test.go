package mirror

import (
	"errors"
	"testing"
)

func TestACommitOfAUserWhoIsGoneIsAsGoodAsBefore(t *testing.T) {
	m := open(t)
	var link Source
	before := m.Generation("anna")
	m.Drop(page)
	if !m.Forget("anna") {
		t.Fatal("anna is still known")
	}
	if err := m.Apply(&link, frame(1, "anna", before, page, 1, set("x", "1"))); err != nil || m.Status().Late != 1 {
		t.Errorf("a commit of before: %v, %d late", err, m.Status().Late)
	}
	if err := m.Apply(&link, frame(2, "anna", before-1, page, 1, set("x", "1"))); !errors.Is(err, ErrStale) {
		t.Errorf("one of an older generation: %v", err)
	}
	// Somebody of the same name is somebody else.
	if err := m.Open("anna", page); err != nil {
		t.Fatal(err)
	}
	if err := m.Apply(&link, frame(3, "anna", before, page, 1, set("x", "1"))); !errors.Is(err, ErrStale) {
		t.Errorf("a write to the store of another user: %v", err)
	}
	other := Ref{Page, "other"}
	if err := m.Apply(&link, frame(4, "anna", before, other, 1, set("x", "1"))); err != nil {
		t.Errorf("a read of the one who is gone: %v", err)
	}
	m.Bump("anna")
	if err := m.Apply(&link, frame(5, "anna", before, other, 1, set("x", "1"))); !errors.Is(err, ErrStale) {
		t.Errorf("behind a move: %v", err)
	}
}

func TestWhatAGuestWroteBeforeItsLoginIsKeptWhenTheGuestIsGone(t *testing.T) {
	m := New(40, Limits{})
	if err := m.Open("guest", page); err != nil {
		t.Fatal(err)
	}
	var link Source
	before := m.Generation("guest")
	m.Relabel("guest", "anna", func(Ref) bool { return true })
	if !m.Forget("guest") {
		t.Fatal("the guest is still known")
	}
	if err := m.Apply(&link, frame(1, "guest", before, page, 1, set("x", "1"))); err != nil || m.Status().Late != 0 {
		t.Errorf("a commit of the guest's: %v, %d late", err, m.Status().Late)
	}
	m.Bump("anna")
	if err := m.Apply(&link, frame(2, "guest", before, page, 1, set("x", "2"))); !errors.Is(err, ErrStale) {
		t.Errorf("behind a move of its heir: %v", err)
	}
}

func TestTheJournalHearsThatTheStoreOfAGuestEndsWithItsLogin(t *testing.T) {
	m := New(40, Limits{})
	own := Ref{User, "guest"}
	for _, ref := range []Ref{page, own} {
		if err := m.Open("guest", ref); err != nil {
			t.Fatal(err)
		}
	}
	var told []Changed
	m.Journal(func(all []Changed, _ any) { told = append(told, all...) })
	m.Relabel("guest", "anna", func(ref Ref) bool { return ref == page })
	if len(told) != 1 || told[0].Ref != own || told[0].What != Ended {
		t.Errorf("told %v", told)
	}
}
