package identity

import (
	"sync"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// Whoever has logged in pushes next, and nobody else may get that.
func TestALoginEndsWhenItIsToldAlsoBehindAnotherOne(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var told sync.Map
	s := open(t, Options{Changed: func(c Change) {
		if c.After == "slow" {
			close(begun)
			<-release
		}
		told.Store(c.After, true)
	}})
	first, second := newBrowser(t, s), newBrowser(t, s)
	first.touches()
	second.touches()
	var wait sync.WaitGroup
	wait.Go(func() { first.logsIn("slow") })
	<-begun
	logsIn, ended := make(chan struct{}), make(chan struct{})
	wait.Go(func() {
		defer close(ended)
		second.visits(func(x *exchange.Exchange) {
			close(logsIn)
			if _, err := s.Visit(x.Who.Key).Login("ann", ""); err != nil {
				t.Error(err)
			}
			if _, is := told.Load("ann"); !is {
				t.Error("the login has ended, and was not told")
			}
			answers(t, x)
		})
	})
	<-logsIn
	select { // one that does not wait would end now
	case <-ended:
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	wait.Wait()
}
