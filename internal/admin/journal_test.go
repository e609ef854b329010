package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

func messages(records []Record) string {
	var all []string
	for _, r := range records {
		all = append(all, r.Message)
	}
	return strings.Join(all, " ")
}

func TestTheJournalKeepsTheLastRecordsAndNoMore(t *testing.T) {
	j := NewJournal()
	for i := range keptRecords + 10 {
		j.Line("p01", "stdout", fmt.Sprintln(i))
	}
	past, _ := j.follow(filter{level: slog.LevelDebug}, 1<<30, false)
	if len(past) != keptRecords || past[0].Message != "10" || past[len(past)-1].Message != fmt.Sprint(keptRecords+9) {
		t.Errorf("%d records, from %q to %q", len(past), past[0].Message, past[len(past)-1].Message)
	}
	big := strings.Repeat("x", keptBytes/4)
	for range 10 {
		j.Line("p01", "stdout", big)
	}
	past, _ = j.follow(filter{level: slog.LevelDebug}, 1<<30, false)
	if len(past) != 3 {
		t.Errorf("%d records of a quarter of the room", len(past))
	}
}

func TestARecordIsFoundByWhoPrintedItAndByWhomItNames(t *testing.T) {
	j := NewJournal()
	log := slog.New(j.Handler(slog.DiscardHandler)).With("group", "shop").WithGroup("in")
	talks := slog.New(j.Handler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})))
	j.Line("p01", "stdout", "printed\n")
	j.Line("p02", "stderr", "other\n")
	j.Belongs("p02", "api")
	j.Line("p02", "stdout", `{"levelname": "WARNING"}`+"\n")
	log.Info("grouped", "n", 1)
	log.Debug("nobody wants this")
	talks.Debug("died", "slot", "p01", "error", errors.New("why"), "took", time.Second, slog.Group("of", "a", 1))
	for _, c := range []struct {
		want filter
		say  string
	}{
		{filter{level: slog.LevelDebug}, `printed other {"levelname": "WARNING"} grouped died`},
		{filter{sources: []string{"p01"}, level: slog.LevelDebug}, "printed died"},
		{filter{sources: []string{"p01"}}, ""},
		{filter{sources: []string{"shop", "p02"}, level: slog.LevelDebug}, `other {"levelname": "WARNING"} grouped`},
		{filter{sources: []string{"api"}, level: slog.LevelDebug}, `{"levelname": "WARNING"}`},
		{filter{level: slog.LevelWarn}, `{"levelname": "WARNING"}`},
		{filter{sources: []string{"host"}, level: slog.LevelDebug}, "grouped died"},
	} {
		past, _ := j.follow(c.want, 100, false)
		if got := messages(past); got != c.say {
			t.Errorf("%+v: %q, not %q", c.want, got, c.say)
		}
	}
	past, _ := j.follow(filter{level: slog.LevelDebug}, 1, false)
	text, err := json.Marshal(past[0].Attrs)
	if want := `{"error":"why","of.a":1,"slot":"p01","took":"1s"}`; err != nil || string(text) != want {
		t.Errorf("attributes %s %v, not %s", text, err, want)
	}
	past, _ = j.follow(filter{sources: []string{"shop"}}, 1, false)
	if past[0].Attrs["in.n"] != int64(1) {
		t.Errorf("attributes %v", past[0].Attrs)
	}
}

func TestTheStreamOfTheLogGoesOnWithoutGapOrRepetition(t *testing.T) {
	r := newRig(t, nil)
	conn, err := net.Dial("unix", r.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	written := make(chan int)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				r.journal.Line("p01", "stdout", "last")
				written <- i
				return
			default:
				r.journal.Line("p01", "stdout", fmt.Sprint(i))
				time.Sleep(100 * time.Microsecond) // slower than the reader
			}
		}
	}()
	if _, err := fmt.Fprint(conn, "GET /v1/logs?follow=true&tail=3&source=p01 HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	next, n := -1, 0
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var record Record
		if json.Unmarshal(lines.Bytes(), &record) != nil {
			continue // the head of the answer
		}
		if record.Message == "last" {
			break
		}
		var i int
		if _, err := fmt.Sscan(record.Message, &i); err != nil {
			t.Fatal(err)
		}
		if next >= 0 && i != next {
			t.Fatalf("%d after %d", i, next-1)
		}
		if next, n = i+1, n+1; n == 200 {
			close(stop)
		}
	}
	if all := <-written; all < 200 || next != all {
		t.Errorf("%d lines were written, the last one read is %d", all, next-1)
	}
}

func TestAReaderThatIsTooSlowLosesRecordsAndIsTold(t *testing.T) {
	j := NewJournal()
	_, to := j.follow(filter{level: slog.LevelDebug}, 0, true)
	for range behind + 7 {
		j.Line("p01", "stdout", "x")
	}
	if n := j.skipped(to); n != 7 || len(to.records) != behind || j.skipped(to) != 0 {
		t.Errorf("%d left out, %d kept", n, len(to.records))
	}
	j.leave(to)
	j.Line("p01", "stdout", "x")
	if len(to.records) != behind || len(j.readers) != 0 {
		t.Error("one who has left is written to")
	}
}
