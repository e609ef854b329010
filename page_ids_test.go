package guado_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var anySlot = rapid.StringMatching(`p(0[1-9]|[1-9][0-9]{1,4})`)

// The slot behind a page's id is a hint, and never proof: with any, the page is the same one
// for whoever names it.
func TestAPageIsTheSameWithAnySlotBehindItsID(t *testing.T) {
	s := pagesSite(t, t.TempDir(), "target = \"pages_classes:app\"\n")
	b := s.browser()
	tab := b.tab(`{"class":"Board"}`)
	tab.told()
	id, attachment := tab.page, 1
	rapid.Check(t, func(r *rapid.T) {
		named := id + "|" + anySlot.Draw(r, "slot")
		switch rapid.IntRange(0, 3).Draw(r, "by") {
		case 0: // its client connects: the newer connection is the one that counts
			tab.page = named
			h := tab.dial()
			if h["t"] != "hello" || h["resumed"] != true {
				r.Fatalf("a hello of %s: %v", named, h)
			}
			attachment = int(h["id"].(float64))
		case 1: // frames beside the connection
			if status, text := b.post("/_guado/push", fmt.Sprintf(`{"t":"on","page":%q,"id":%d}`, named, attachment)); status != 204 {
				r.Fatalf("a POST of %s: %d %s", named, status, text)
			}
		case 2: // the cookies of a reply: there are none, but the page is known
			status, text := b.post("/_guado/push", fmt.Sprintf(`{"t":"cookies","page":%q,"k":"none"}`, named))
			if status != 404 || !strings.Contains(text, "no_cookies") {
				r.Fatalf("cookies of %s: %d %s", named, status, text)
			}
		default: // guado.page(named) of the application: what it pushes, and what it subscribes
			if status, text := b.post("/named", fmt.Sprintf("%q", named)); status != 200 {
				r.Fatalf("the application names %s: %d %s", named, status, text)
			}
			for _, want := range []string{"map[data:1 topic:tea]", "named"} {
				if f := tab.numbered(); fmt.Sprint(f["m"]) != want {
					r.Fatalf("pushed to %s: %v in place of %s", named, f, want)
				}
			}
		}
	})
	if all := s.Pages(); len(all) != 1 || all[0].Page != id {
		t.Errorf("the pages: %+v", all)
	}
	for _, wrong := range []string{id + "|", id + "|p1", id + "|p01|p02", id + "|q01", id[1:] + "|p01"} {
		tab.page, tab.epoch = wrong, ""
		if f := tab.dial(); f["close"] != 3502.0 {
			t.Errorf("a hello of %q, which is no id: %v", wrong, f)
		}
	}
	tab.page = id + "|p07"
	tab.dial()
	if status, text := b.post("/_guado/push", fmt.Sprintf(`{"t":"bye","page":%q,"client":%q}`, tab.page, tab.client)); status != 204 || len(s.Pages()) != 0 {
		t.Errorf("a bye of %s: %d %s; there are %v", tab.page, status, text, s.Pages())
	}
	// Of another browser's page it proves nothing either.
	theirs := b.tab(`{"path":"/x"}`)
	stranger := s.browser()
	stranger.tab(`{"path":"/x"}`)
	thief := *theirs
	thief.browser, thief.page, thief.epoch = stranger, theirs.page+"|p01", ""
	if f := thief.dial(); f["close"] != 3502.0 {
		t.Errorf("a hello of another browser's page: %v", f)
	}
}
