package identity

import (
	"sync"
	"testing"
	"time"
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
	c := second.touches()
	var wait sync.WaitGroup
	wait.Go(func() { first.logsIn("slow") })
	<-begun
	ended := make(chan struct{})
	wait.Go(func() {
		defer close(ended)
		second.logsIn("ann")
		if _, is := told.Load("ann"); !is {
			t.Error("the login has ended, and was not told")
		}
	})
	for {
		if now, _ := s.Find(c.ID); now.User == "ann" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select { // one that does not wait would end now
	case <-ended:
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	wait.Wait()
}
