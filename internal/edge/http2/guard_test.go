package http2

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAGuardFiresOnlyWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fired atomic.Int64
		var g guard
		g.reset(time.Second, func() { fired.Add(1) })
		for range 5 { // each in time, together not
			g.start()
			time.Sleep(900 * time.Millisecond)
			if !g.stop() {
				t.Fatal("an operation in time was ended")
			}
			time.Sleep(10 * time.Second) // nobody waits
		}
		g.start()
		time.Sleep(1100 * time.Millisecond)
		if g.stop() || fired.Load() != 1 {
			t.Fatalf("an operation out of time: fired %d times", fired.Load())
		}
		g.start()
		time.Sleep(10 * time.Second)
		if g.stop() || fired.Load() != 1 {
			t.Errorf("after it has fired: %d times", fired.Load())
		}
		g.reset(time.Second, func() { fired.Add(10) })
		g.start()
		time.Sleep(2 * time.Second)
		if g.stop() || fired.Load() != 11 {
			t.Errorf("used again: %d", fired.Load())
		}
		g.reset(0, nil) // no limit
		g.start()
		time.Sleep(time.Hour)
		if !g.stop() {
			t.Error("a guard without a limit fired")
		}
	})
}

func TestAGuardThatFiresHasFiredWhenStopReturns(t *testing.T) {
	// At the very moment of the end: whichever way it goes, fire never runs after stop.
	for range 2000 {
		var g guard
		var running atomic.Bool
		g.reset(50*time.Microsecond, func() { running.Store(true); running.Store(false) })
		g.start()
		for end := time.Now().Add(50 * time.Microsecond); time.Now().Before(end); {
		}
		before := g.stop()
		g.start()
		if g.stop() != before && !before {
			t.Fatal("a guard that has fired forgot it")
		}
		if running.Load() {
			t.Fatal("fire runs after stop")
		}
	}
}

func TestABucketFillsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(10, time.Minute)
		take := func() (n int) {
			for b.take() {
				n++
			}
			return n
		}
		if n := take(); n != 10 {
			t.Errorf("at once: %d", n)
		}
		time.Sleep(30 * time.Second)
		if n := take(); n != 5 {
			t.Errorf("after half the time: %d", n)
		}
		time.Sleep(time.Hour)
		if n := take(); n != 10 {
			t.Errorf("after an hour: %d", n)
		}
	})
}
