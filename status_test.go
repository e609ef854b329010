package guado

import (
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/edge"
)

func TestTheURLOfAListenerThatStaysPlainSaysSo(t *testing.T) {
	listeners, err := edge.ListenAll([]string{"127.0.0.1:0", "http://127.0.0.1:0", "unix:" + t.TempDir() + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"https://127.0.0.1:", "http://127.0.0.1:", "unix:/"} {
		if got := listenURL(listeners[i], true); !strings.HasPrefix(got, want) {
			t.Errorf("listener %d answers at %q, want %q…", i, got, want)
		}
		_ = listeners[i].Close()
	}
}
