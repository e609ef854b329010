package basicauth

import (
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/guado-server/guado/internal/exchange"
)

func hashOf(t *testing.T, password string) []byte {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestAnUnknownNameCostsWhatAWrongPasswordCosts(t *testing.T) {
	u := &users{looked: time.Now().Add(time.Hour)}
	text := "anna:" + string(hashOf(t, "sesame")) + "\nbruno:" + string(hashOf(t, "open")) + "\n"
	var err error
	if u.hashes, u.nobody, err = load([]byte(text)); err != nil {
		t.Fatal(err)
	}
	known, isKnown := u.find("anna")
	unknown, isUnknown := u.find("nobody")
	if !isKnown || isUnknown {
		t.Fatalf("known %v, unknown %v", isKnown, isUnknown)
	}
	a, errA := bcrypt.Cost(known)
	b, errB := bcrypt.Cost(unknown)
	if errA != nil || errB != nil || a != b {
		t.Errorf("costs %d (%v) and %d (%v)", a, errA, b, errB)
	}
	c := newChecker()
	x := exchange.New()
	for _, password := range []string{"", "sesame", "open"} {
		if v := c.check(x, unknown, []byte(password)); v != wrong {
			t.Errorf("nobody with %q: %v", password, v)
		}
	}
	if v := c.check(x, known, []byte("sesame")); v != right {
		t.Errorf("anna: %v", v)
	}
	if v := c.check(x, u.hashes["bruno"], []byte("sesame")); v != wrong {
		t.Errorf("what was right for anna is for bruno: %v", v)
	}
}

func TestAFloodOfGuessesWaitsInABoundedLine(t *testing.T) {
	c := newChecker()
	hash := hashOf(t, "sesame")
	if v := c.check(exchange.New(), hash, []byte("sesame")); v != right {
		t.Fatal(v)
	}
	for range cap(c.seats) {
		c.seats <- struct{}{} // as many checks as may run
	}
	results := make(chan verdict, mostWaiting)
	waiting := make([]*exchange.Exchange, mostWaiting)
	for i := range waiting {
		x := exchange.New()
		waiting[i] = x
		go func() { results <- c.check(x, hash, []byte("guess")) }()
	}
	for deadline := time.Now().Add(30 * time.Second); c.waiting.Load() < mostWaiting; {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", c.waiting.Load())
		}
		time.Sleep(time.Millisecond)
	}
	if v := c.check(exchange.New(), hash, []byte("guess")); v != busy {
		t.Errorf("one more: %v, want busy", v)
	}
	if v := c.check(exchange.New(), hash, []byte("sesame")); v != right {
		t.Errorf("who is known already: %v", v)
	}
	waiting[0].SetGone(exchange.Closed)
	if v := <-results; v != left {
		t.Errorf("a client that has gone: %v, want left", v)
	}
	<-c.seats
	for range mostWaiting - 1 {
		if v := <-results; v != wrong {
			t.Errorf("a guess: %v", v)
		}
	}
	if n := c.waiting.Load(); n != 0 {
		t.Errorf("%d wait at the end", n)
	}
}
