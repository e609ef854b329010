package guado_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// verifiedSite is a server of phase 6 with stores.
func verifiedSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = 6\nstate_dir = \"state\"\ncache_dir = \"cache\"\n"+
		"[[app]]\nname = \"shop\"\ntarget = \"stores_app:app\"\ndir = %q\npython = %q\n", harness.Apps(), harness.Python(t, "newest")))
	return siteOf(t, dir)
}

func TestInPhase6AStoreThatIsNotAsTheHostsCopyIsFoundByItsPath(t *testing.T) {
	s := verifiedSite(t)
	tab := s.browser().tab(`{"path":"/"}`)
	stores := func() *guado.StoresStatus { return s.Status().Stores }
	tab.do(`{"set":{"cart.items":[1,{"sku":"é"}],"cart.total":1.5,"x.y.z":"1"}}`)
	tab.do(`{"of":"connection","set":{"cart.lang":"it"}}`)
	s.eventually("both stores were compared twice", func() bool { return stores().Compared >= 4 })
	if st := stores(); st.Differences != 0 || len(st.Differing) != 0 {
		t.Fatalf("nothing is wrong, and yet %+v", st)
	}
	tab.do(`{"damage":{"total":99.5}}`)
	s.eventually("the difference is found", func() bool { return stores().Differences > 0 })
	d := stores().Differing[0]
	if d.Kind != "page" || d.ID != tab.page || d.Path != "cart.total" || d.Worker != "99.5" || d.Host != "1.5" {
		t.Errorf("%+v", d)
	}
	if log := s.log.String(); !strings.Contains(log, "not as the host's copy") || !strings.Contains(log, "at=cart.total") {
		t.Errorf("the log says nothing of it:\n%s", log)
	}
}

func TestWhatRequestsWriteMeanwhileIsNoDifference(t *testing.T) {
	s := verifiedSite(t)
	tab := s.browser().tab(`{"path":"/"}`)
	compared := uint64(0)
	s.eventually("stores were compared under load", func() bool {
		for range 50 {
			tab.do(`{"add":"n","set":{"a.b":[1]},"of":"connection"}`)
			tab.do(`{"add":"n"}`)
		}
		compared = s.Status().Stores.Compared
		return compared >= 6
	})
	if st := s.Status().Stores; st.Differences != 0 {
		t.Errorf("%+v", st)
	}
}
