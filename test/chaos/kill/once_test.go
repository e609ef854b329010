package kill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Writes that a client repeats until it is told: over HTTP with an Idempotency-Key, from which
// the client also walks away now and then; over the socket by a message that comes twice, and
// anew only when the host says that its worker took it along. In the end each is there once.

// repeat does an operation under a key, or says why it was not told.
func (b *browser) repeat(ctx context.Context, key, page string, d do, into any) error {
	err := b.request(ctx, "/", page, key, d, into)
	if ctx.Err() != nil || errors.Is(err, errRunning) {
		return errUnknown
	}
	return err
}

// ofOnce is a store that is used for nothing else: transactions keep others from reading it.
const ofOnce = "user"

// once appends a number to the list that all tabs of the browser share.
func (t *tab) once() error {
	n := int(values.Add(1))
	d := do{Of: ofOnce, Key: "once", Append: n, Alone: true}
	key := fmt.Sprintf("%d of client %d", n, t.number)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		err := t.tell(key, d)
		if err == nil {
			t.wrote = append(t.wrote, n)
			t.world.told.Add(1)
			return nil
		}
		if !errors.Is(err, errUnknown) {
			return err
		}
		t.world.unknown.Add(1)
		time.Sleep(time.Millisecond) // as clients do that ask again
	}
	return fmt.Errorf("write %d was not told", n)
}

func (t *tab) tell(key string, d do) error {
	var length int
	if t.number%2 == 1 {
		return t.message(d, &length)
	}
	ctx, leave := context.WithTimeout(context.Background(), patience)
	if rand.IntN(3) == 0 {
		ctx, leave = context.WithTimeout(ctx, time.Duration(rand.IntN(10_000))*time.Microsecond)
	}
	defer leave()
	return t.browser.repeat(ctx, `"`+key+`"`, t.page, d, &length)
}

// message sends it over the page's session, and asks the next host what became of it where one
// was killed.
func (t *tab) message(d do, into any) error {
	err := t.socket.asks(d, into, 0, 2)
	for errors.Is(err, errSession) {
		if err := t.world.broken(t.socket.host, err); !errors.Is(err, errUnknown) {
			return err
		}
		number := t.socket.sent
		if err := t.again(); !errors.Is(err, errUnknown) {
			return err
		}
		err = t.socket.asks(d, into, number, 2)
	}
	return err
}

// checkOnce holds what is there against what the client wrote.
func (t *tab) checkOnce() error {
	var found []int
	if err := t.browser.post("/", t.page, do{Of: ofOnce, Key: "once", All: true}, &found); err != nil {
		return err
	}
	times, before := map[int]int{}, -1
	for _, n := range found {
		times[n]++
	}
	for _, n := range t.wrote {
		if times[n] != 1 {
			return fmt.Errorf("client %d (page %s): write %d was done %d times", t.number, t.page, n, times[n])
		}
		at := slices.Index(found, n)
		if at < before {
			return fmt.Errorf("client %d (page %s): write %d stands before one that was told earlier", t.number, t.page, n)
		}
		before = at
	}
	return nil
}
