package guado_test

import (
	"fmt"
	"path/filepath"
	"testing"
)

func TestALoginComesWithTheCommitOfItsRequestOrNotAtAll(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.wantDone(`{"set":{"x":1},"who":1}`, "null")
		page, opened := tab.page, s.Status().Push.Opened
		// Killed behind its login, with what is anna's in hand: nobody is logged in, nothing is left.
		once := filepath.Join(t.TempDir(), "once")
		if status, text := tab.post("/", fmt.Sprintf(`{"login":"anna","of":"anna","set":{"z":1},"die_once":%q}`, once), "Guado-Page: "+page); status != 502 {
			t.Errorf("%d %s", status, text)
		}
		tab.wantDone(`{"get":"x","who":1}`, "null")
		if st := s.Status(); st.Identity.Logins != 0 || st.Identity.Users != 0 || st.Stores.Users != 1 || st.Push.Opened != opened {
			t.Errorf("identity %+v, stores %+v, push %+v", st.Identity, st.Stores, st.Push)
		}
		tab.wantDone(`{"get":"x"}`, "1")
		// What it pushes behind the login comes to the page when that is anna's.
		tab.wantDone(`{"set":{"x":2},"login":"anna","push":{"for":"anna"},"who":1}`, `"anna"`)
		tab.wantDone(`{"get":"x"}`, "2")
		for f := tab.numbered(); f["close"] != 3008.0; f = tab.numbered() {
			if f["m"] != nil {
				t.Fatalf("the client of before the login got %v", f)
			}
		}
		if h := tab.dial(); h["resumed"] != true {
			t.Errorf("%v", h)
		}
		if f := tab.numbered(); text(f["m"]) != `{"for":"anna"}` {
			t.Errorf("the client of the login got %v", f)
		}
		// A request that fails commits, and so does its login.
		if status, text := tab.post("/", `{"login":"bob","raise":"as the test wants it"}`); status != 500 {
			t.Errorf("%d %s", status, text)
		}
		tab.wantDone(`{"who":1}`, `"bob"`)
		if st := s.Status().Identity; st.Logins != 2 || st.Users != 1 {
			t.Errorf("%+v", st)
		}
	})
}
