package exchange_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestACollectedAnswerIsWhatWasWritten(t *testing.T) {
	name := []byte("X-One")
	c := &exchange.Collected{Limit: 64}
	if err := c.Head(exchange.Head{Status: 201, Length: -1, Fields: []exchange.Field{{Name: name, Value: []byte("1")}}}); err != nil {
		t.Fatal(err)
	}
	copy(name, "?????") // the lane's memory is used again
	if _, err := c.Write([]byte("begin ")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	if err := c.File(f, 2, 3); err != nil {
		t.Fatal(err)
	}
	if string(c.Body) != "begin 234" || c.Status != 201 || string(c.Field("x-one")) != "1" || !c.Begun() {
		t.Errorf("%d %q %q", c.Status, c.Fields, c.Body)
	}
	if o := c.Outcome(); o.Status != 201 || o.BytesOut != 9 || o.Err != nil {
		t.Errorf("%+v", o)
	}
}

func TestACollectedAnswerThatIsTooLargeEndsAsIfTheClientHadLeft(t *testing.T) {
	c := &exchange.Collected{Limit: 4}
	if err := c.Head(exchange.Head{Status: 200, Length: -1}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Write([]byte("12345"))
	if !errors.Is(err, exchange.ErrClientGone) || !errors.Is(c.Err, exchange.ErrAnswerTooLarge) || len(c.Body) != 0 {
		t.Errorf("%v, %v, %q", err, c.Err, c.Body)
	}
	if c = (&exchange.Collected{Limit: 4}); !errors.Is(c.Head(exchange.Head{Status: 200, Length: 5}), exchange.ErrClientGone) {
		t.Error("a length over the limit was taken")
	}
}

func TestABodyThatHasComeIsReadOnce(t *testing.T) {
	b := exchange.BodyOf([]byte("all of it"))
	p, err := io.ReadAll(b)
	if n, end := b.Read(make([]byte, 1)); string(p) != "all of it" || err != nil || n != 0 || !errors.Is(end, io.EOF) {
		t.Errorf("%q %v, then %d %v", p, err, n, end)
	}
}
