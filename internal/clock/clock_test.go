package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestATimerGoesOffAtItsTimeAndWhenTheClockIsMovedThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		var gone []string
		first, second := c.AfterFunc(func() { gone = append(gone, "first") }), c.AfterFunc(func() { gone = append(gone, "second") })
		first.Reset(time.Minute)
		second.Reset(time.Hour)
		time.Sleep(time.Minute + 1)
		synctest.Wait()
		if len(gone) != 1 || gone[0] != "first" {
			t.Fatalf("after a minute: %v", gone)
		}
		c.Advance(58 * time.Minute)
		synctest.Wait()
		if len(gone) != 1 {
			t.Fatalf("before its time: %v", gone)
		}
		c.Advance(2 * time.Minute)
		synctest.Wait()
		if len(gone) != 2 {
			t.Fatalf("moved past its time: %v", gone)
		}
		first.Reset(time.Minute)
		first.Stop()
		c.Advance(time.Hour)
		synctest.Wait()
		if len(gone) != 2 {
			t.Fatalf("stopped, and it went off: %v", gone)
		}
	})
}

func TestTheWallAndTheClockAgreeAfterAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		at := c.Now()
		time.Sleep(time.Second)
		c.Advance(time.Hour)
		if seen := time.Since(c.Wall(at)); seen != time.Hour+time.Second {
			t.Errorf("an hour and a second ago is %v ago", seen)
		}
		if got := c.At(c.Wall(at)); got != at {
			t.Errorf("there and back: %v, not %v", got, at)
		}
	})
}

func TestAMomentIsToldTheSameEachTime(t *testing.T) {
	c := New()
	at := c.Now()
	first := c.Wall(at)
	for range 10_000 {
		if again := c.Wall(at); !again.Equal(first) {
			t.Fatalf("%v was told as %v", first, again)
		}
	}
}
