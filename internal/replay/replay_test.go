package replay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/clock"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/replay"
)

// desk is a store with an application behind it.
type desk struct {
	t     *testing.T
	store *replay.Store
	clock *clock.Clock
	log   bytes.Buffer
	step  exchange.Handler
	done  int // how often the application was asked
	app   func(x *exchange.Exchange)
}

func newDesk(t *testing.T, o replay.Options, p replay.Policy) *desk {
	t.Helper()
	d := &desk{t: t, clock: clock.New()}
	o.Clock, o.Log = d.clock, slog.New(slog.NewTextHandler(&d.log, nil))
	if o.TTL == 0 {
		o.TTL = time.Minute
	}
	if o.Count == 0 {
		o.Count = 100
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 20
	}
	if o.Answer == 0 {
		o.Answer = 4 << 10
	}
	o.Decode = func(payload []byte, _ []exchange.Field) (exchange.Head, []byte, error) {
		return exchange.Head{Status: 200, Length: int64(len(payload))}, payload, nil
	}
	d.store = replay.New(o)
	d.app = func(x *exchange.Exchange) {
		body, err := io.ReadAll(x.Body)
		if err != nil {
			t.Error(err)
		}
		answer(x, 200, fmt.Sprintf("%d: %s", d.done, body))
	}
	d.step = d.store.Step(p, exchange.HandlerFunc(func(x *exchange.Exchange) {
		d.done++
		d.app(x)
	}))
	return d
}

func answer(x *exchange.Exchange, status int, text string) {
	if err := x.Answer.Head(exchange.Head{Status: status, Fields: []exchange.Field{{Name: []byte("X-App"), Value: []byte("yes")}}, Length: int64(len(text))}); err != nil {
		return
	}
	_, _ = x.Answer.Write([]byte(text)) // the client may have left
}

// request is one, and what is changed of it.
func request(key, body string, change ...func(x *exchange.Exchange)) *exchange.Exchange {
	x := exchange.New()
	x.ID, x.Method, x.Path, x.Host = "r", "POST", []byte("/pay"), []byte("shop.example:80")
	x.Length, x.Body = int64(len(body)), exchange.BodyOf([]byte(body))
	if key != "" {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("Idempotency-Key"), Value: []byte(key)})
	}
	for _, c := range change {
		c(x)
	}
	return x
}

// gets serves a request and gives what the client reads.
func (d *desk) gets(x *exchange.Exchange) string {
	d.t.Helper()
	c := &exchange.Collected{Limit: 1 << 20}
	x.Answer = c
	d.step.Serve(x)
	if x.Answer != c || x.Once != nil || x.Stays {
		d.t.Error("the step has left something in the exchange")
	}
	return read(c)
}

func read(c *exchange.Collected) string {
	if c.Refused != nil {
		text := fmt.Sprintf("%d %s", c.Refused.Status, c.Refused.Code)
		if len(c.Refused.Fields) > 0 {
			text += " again"
		}
		return text
	}
	text := fmt.Sprintf("%d %s", c.Status, c.Body)
	if c.Field("idempotency-replayed") != nil {
		text += " again"
	}
	if c.Field("idempotency-kept") != nil {
		text += " not kept"
	}
	return text
}

func (d *desk) want(x *exchange.Exchange, want string) {
	d.t.Helper()
	if got := d.gets(x); got != want {
		d.t.Errorf("%q, and not %q", got, want)
	}
}

func TestAKeyIsBoundToWhoseItIsAndWhatItIsFor(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{})
	who := func(connection, user string) func(*exchange.Exchange) {
		return func(x *exchange.Exchange) { x.Who = &exchange.Who{Connection: connection, User: user} }
	}
	field := func(name, value string) func(*exchange.Exchange) {
		return func(x *exchange.Exchange) {
			x.Fields = append(x.Fields, exchange.Field{Name: []byte(name), Value: []byte(value)})
		}
	}
	others := map[string]*exchange.Exchange{}
	for name, change := range map[string]func(*exchange.Exchange){
		"nobody":              func(*exchange.Exchange) {},
		"another path":        func(x *exchange.Exchange) { x.Path = []byte("/pay/") },
		"another method":      func(x *exchange.Exchange) { x.Method = "PUT" },
		"another host":        func(x *exchange.Exchange) { x.Host = []byte("bank.example") },
		"another password":    func(x *exchange.Exchange) { x.User = "ann" },
		"other credentials":   field("Authorization", "Bearer x"),
		"a connection":        who("c1", ""),
		"another connection":  who("c2", ""),
		"who has logged in":   who("c1", "ann"),
		"who came as another": who("c1", "bob"),
	} {
		others[name] = request("k", "", change)
	}
	for name, x := range others {
		if got := d.gets(x); strings.Contains(got, "again") {
			t.Errorf("%s got the answer of another: %s", name, got)
		}
	}
	before := d.done
	for _, x := range []*exchange.Exchange{
		request(`"k"`, ""),
		request("k", "", func(x *exchange.Exchange) { x.Host = []byte("SHOP.example:8080") }),
		request("k", "", who("c1", "ann"), field("Authorization", "Bearer y")), // a connection says more
	} {
		if got := d.gets(x); !strings.HasSuffix(got, "again") || d.done != before {
			t.Errorf("%s", got)
		}
	}
}

func TestAKeyIsAsTheDraftHasItOrAsClientsSendIt(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{Required: true})
	for _, bad := range []string{`""`, `"`, "a b", "a\"b", "a\x7fb", "\xc3\xa9", strings.Repeat("a", 256), `"\a"`, `"a\"`, `"a"b"`} {
		d.want(request(bad, ""), "400 bad_idempotency_key")
	}
	d.want(request("", ""), "400 idempotency_key_missing")
	d.want(request("k", "", func(x *exchange.Exchange) { x.Fields = append(x.Fields, x.Fields[0]) }), "400 bad_idempotency_key")
	d.want(request("k", "", func(x *exchange.Exchange) { x.Upgrader = upgrader{} }), "400 idempotency_upgrade")
	if d.done != 0 {
		t.Errorf("the application was asked %d times", d.done)
	}
	for i, good := range []string{strings.Repeat("a", 255), `"with \"marks\" and \\"`, "8e03978e-40d5-43dd-bc93-6894a57f9324"} {
		d.want(request(good, ""), fmt.Sprintf("200 %d: ", i+1))
	}
	d.want(request(`"8e03978e-40d5-43dd-bc93-6894a57f9324"`, ""), "200 3:  again")
	// What changes nothing needs no key, and takes no notice of one.
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE"} {
		before := d.done
		for _, key := range []string{"", "k", "k", "no key at all"} {
			d.gets(request(key, "", func(x *exchange.Exchange) { x.Method = method }))
		}
		if d.done != before+4 {
			t.Errorf("%s: the application was asked %d times", method, d.done-before)
		}
	}
}

type upgrader struct{ exchange.Upgrader }

func TestAnotherRequestUnderTheKeyIsRefused(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{})
	kind := func(x *exchange.Exchange) {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("Content-Type"), Value: []byte("text/csv")})
	}
	chunked := func(x *exchange.Exchange) { x.Length = -1 }
	d.want(request("k", "five", chunked), "200 1: five")
	d.want(request("k", "five"), "200 1: five again")
	d.want(request("k", "five", chunked), "200 1: five again")
	for _, x := range []*exchange.Exchange{
		request("k", "fiv"), request("k", "five "), request("k", "nine"), request("k", ""), request("k", "five more", chunked),
		request("k", "five", kind), request("k", "five", func(x *exchange.Exchange) { x.Query = []byte("a=1") }),
	} {
		d.want(x, "422 idempotency_mismatch")
	}
	// Of an application that answers before it has read all, as much is compared as it has read.
	d.app = func(x *exchange.Exchange) {
		_, _ = io.ReadFull(x.Body, make([]byte, 4))
		answer(x, 200, "read four")
	}
	d.want(request("part", "five and more"), "200 read four")
	d.want(request("part", "five and less"), "200 read four again")
	d.want(request("part", "nine and more"), "422 idempotency_mismatch")
	d.want(request("cut", "fiv"), "200 read four")
	d.want(request("cut", "five"), "422 idempotency_mismatch")
}

func TestWhatTheApplicationAnsweredIsGivenAgainWhateverItWas(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{})
	for _, status := range []int{201, 204, 302, 404, 409, 500, 503} {
		key := fmt.Sprint(status)
		d.app = func(x *exchange.Exchange) { answer(x, status, "") }
		d.want(request(key, ""), key+" ")
		d.want(request(key, ""), key+"  again")
	}
	d.app = func(x *exchange.Exchange) {
		_ = x.Answer.Informational(103, nil)
		_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1})
		_, _ = x.Answer.Write([]byte("one "))
		_ = x.Answer.Flush()
		_ = x.Answer.File(file("12345"), 1, 3)
		_ = x.Answer.Trailers([]exchange.Field{{Name: []byte("Sum"), Value: []byte("1")}})
	}
	d.want(request("parts", ""), "200 one 234")
	d.want(request("parts", ""), "200 one 234 again")
}

type file string

func (f file) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(string(f)).ReadAt(p, off)
}
func (file) Fd() uintptr { return 0 }

func TestOfAFailureIsKeptWhatTheApplicationHadBegun(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{})
	started := fmt.Errorf("the test: %w", exchange.ErrStarted)
	for _, c := range []struct {
		name      string
		problem   exchange.Problem
		committed bool
		again     string // empty: it is done again
	}{
		{"raised", exchange.Problem{Status: 500, Code: "application_error"}, false, "500 application_error again"},
		{"past its deadline", exchange.Problem{Status: 504, Code: "deadline", Err: started}, false, "504 deadline again"},
		{"past its deadline in the queue", exchange.Problem{Status: 504, Code: "deadline"}, false, ""},
		{"no room", exchange.Problem{Status: 503, Code: "queue_full"}, false, ""},
		{"killed", exchange.Problem{Status: 502, Code: "worker_died"}, false, ""},
		{"killed behind a commit", exchange.Problem{Status: 502, Code: "worker_died"}, true, "409 idempotency_lost"},
		{"cut by a stop", exchange.Problem{Status: 503, Code: "stopping", Err: started}, false, "409 idempotency_lost"},
		{"refused by a stop", exchange.Problem{Status: 503, Code: "stopping"}, false, ""},
		{"moved", exchange.Problem{Status: 502, Code: "moved"}, false, ""},
	} {
		d.app = func(x *exchange.Exchange) {
			if c.committed {
				x.Once.Committed()
			}
			x.Fail(&c.problem)
		}
		first := fmt.Sprintf("%d %s", c.problem.Status, c.problem.Code)
		d.want(request(`"`+c.name+`"`, ""), first)
		before := d.done
		want := c.again
		if want == "" {
			want, before = first, before+1
		}
		d.want(request(`"`+c.name+`"`, ""), want)
		if d.done != before {
			t.Errorf("%s: it was done %d times too often", c.name, d.done-before)
		}
	}
	// An answer that comes behind the deadline is better than none.
	var late exchange.Once
	d.app = func(x *exchange.Exchange) {
		late = x.Once
		x.Fail(&exchange.Problem{Status: 504, Code: "deadline", Err: started})
	}
	d.want(request("late", ""), "504 deadline")
	late.Answered([]byte("done after all"))
	d.want(request("late", ""), "200 done after all again")
	late.Answered([]byte("done twice"))
	d.want(request("late", ""), "200 done after all again")
	// One that was cut is lost.
	d.app = func(x *exchange.Exchange) {
		answer(x, 200, "half")
		x.Answer.Abort(errors.New("as the test wants it"))
	}
	d.gets(request("half", ""))
	d.want(request("half", ""), "409 idempotency_lost")
}

// lane is a client that leaves when the test says so.
type lane struct {
	exchange.Collected
	gone error
}

func (l *lane) Head(h exchange.Head) error {
	if l.gone != nil {
		return l.gone
	}
	return l.Collected.Head(h)
}

func (l *lane) Write(p []byte) (int, error) {
	if l.gone != nil {
		return 0, l.gone
	}
	return l.Collected.Write(p)
}

func TestTheClientsLeavingIsNobodysBusinessWhileTheAnswerIsKept(t *testing.T) {
	for name, gone := range map[string]error{"gone": exchange.ErrClientGone, "slow": exchange.ErrSlowClient} {
		d := newDesk(t, replay.Options{}, replay.Policy{})
		var errs []error
		d.app = func(x *exchange.Exchange) {
			x.SetGone(exchange.Closed)
			if x.Left() != exchange.Present {
				t.Error("the request is given up")
			}
			errs = append(errs, x.Answer.Head(exchange.Head{Status: 200, Length: -1}))
			for range 2 {
				_, err := x.Answer.Write([]byte("kept "))
				errs = append(errs, err, x.Answer.Flush())
			}
		}
		x := request(name, "")
		x.Answer = &lane{gone: fmt.Errorf("the test: %w", gone), Collected: exchange.Collected{Limit: 1 << 20}}
		d.step.Serve(x)
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
		if x.Problem == nil || x.Problem.Code != "client_gone" {
			t.Errorf("the access log is told of %v", x.Problem)
		}
		d.want(request(name, ""), "200 kept kept  again")
		// Behind the bound nobody waits for it any more.
		d.app = func(x *exchange.Exchange) {
			x.SetGone(exchange.Closed)
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1})
			for range 2 {
				_, errs[0] = x.Answer.Write(make([]byte, 3<<10))
			}
			if !errors.Is(errs[0], exchange.ErrClientGone) || x.Left() != exchange.Closed {
				t.Errorf("it goes on: %v", errs[0])
			}
		}
		x = request(name+"-and-long", "")
		x.Answer = &lane{gone: gone, Collected: exchange.Collected{Limit: 1 << 20}}
		d.step.Serve(x)
		d.want(request(name+"-and-long", ""), "409 idempotency_not_kept")
	}
}

func TestOfStreamsAndLongAnswersItIsRememberedThatTheyWere(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{})
	d.app = func(x *exchange.Exchange) { answer(x, 200, strings.Repeat("x", 5<<10)) }
	if got := d.gets(request("long", "")); !strings.HasSuffix(got, " not kept") || len(got) < 5<<10 {
		t.Error(got[:20])
	}
	d.want(request("long", ""), "409 idempotency_not_kept")
	d.want(request("long", "another"), "422 idempotency_mismatch")
	d.app = func(x *exchange.Exchange) {
		_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1, Fields: []exchange.Field{{Name: []byte("content-type"), Value: []byte("Text/Event-Stream; charset=utf-8")}}})
		d.want(request("stream", ""), "409 idempotency_not_kept") // also while it goes on
		_, _ = x.Answer.Write([]byte("data: 1\n\n"))
	}
	d.want(request("stream", ""), "200 data: 1\n\n not kept")
	if st := d.store.Status(); st.NotKept != 2 || st.Without != 2 || st.Keys != 2 || st.Bytes != 0 || !strings.Contains(d.log.String(), "not kept") {
		t.Errorf("%+v, log %s", st, d.log.String())
	}
}

func TestAnswersHaveBoundsAndATimeAndKeysOutliveAnswers(t *testing.T) {
	d := newDesk(t, replay.Options{Count: 3, Bytes: 1200}, replay.Policy{})
	d.app = func(x *exchange.Exchange) { answer(x, 200, strings.Repeat("x", 200)) }
	for _, key := range []string{"a", "b", "c"} {
		d.gets(request(key, ""))
	}
	d.want(request("a", ""), "409 idempotency_not_kept") // its answer made room, its key did not
	if got := d.gets(request("c", "")); !strings.HasSuffix(got, "again") {
		t.Error(got)
	}
	d.gets(request("d", "")) // and now the key
	if st := d.store.Status(); st.Keys != 3 || st.Bytes > 1200 || st.Dropped < 2 {
		t.Errorf("%+v", st)
	}
	before := d.done
	d.gets(request("a", ""))
	if d.done != before+1 {
		t.Error("what is forgotten is not done again")
	}
	d.clock.Advance(time.Minute - time.Second)
	if st := d.store.Status(); st.Keys != 3 {
		t.Errorf("%+v", st)
	}
	d.clock.Advance(time.Second)
	if st := d.store.Status(); st.Keys != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
}

func TestAnswersAreTakenBackFromAFileAndFromAJournal(t *testing.T) {
	dir := t.TempDir()
	d := newDesk(t, replay.Options{}, replay.Policy{})
	journal := map[string][]byte{}
	d.store.Journal(func(k replay.Kept) {
		if journal[k.ID] = k.Data; k.Data == nil {
			delete(journal, k.ID)
		}
	})
	d.want(request("a", "1"), "200 1: 1")
	d.app = func(x *exchange.Exchange) { answer(x, 200, strings.Repeat("x", 5<<10)) }
	d.gets(request("long", ""))
	d.app = func(x *exchange.Exchange) { x.Fail(&exchange.Problem{Status: 500, Code: "application_error"}) }
	d.gets(request("raised", ""))
	d.app = func(x *exchange.Exchange) { x.Fail(&exchange.Problem{Status: 503, Code: "queue_full"}) }
	d.gets(request("free", ""))
	d.app = func(x *exchange.Exchange) {
		k, is := x.Once.Keeps([]byte("whole")).(replay.Kept) // it went with a commit
		if !is {
			t.Fatal("nothing is to be kept with the commit")
		}
		before := len(journal)
		journal[k.ID] = k.Data
		x.Once.Answered([]byte("whole"))
		answer(x, 200, "whole")
		if len(journal) != before+1 {
			t.Errorf("%d", len(journal))
		}
	}
	d.want(request("committed", ""), "200 whole")
	for _, way := range []string{"file", "journal"} {
		again := newDesk(t, replay.Options{}, replay.Policy{})
		again.app = func(x *exchange.Exchange) { answer(x, 200, "anew") }
		switch way {
		case "journal":
			for id, data := range journal {
				if err := again.store.Recover(data); err != nil {
					t.Errorf("%x: %v", id, err)
				}
			}
		default:
			if err := errors.Join(d.store.Save(dir), again.store.Load(dir)); err != nil {
				t.Fatal(err)
			}
		}
		again.want(request("a", "1"), "200 1: 1 again")
		again.want(request("a", "2"), "422 idempotency_mismatch")
		again.want(request("long", ""), "409 idempotency_not_kept")
		again.want(request("raised", ""), "500 application_error again")
		again.want(request("committed", ""), "200 whole again")
		if again.done > 0 {
			t.Errorf("%s: done again", way)
		}
		again.want(request("free", ""), "200 anew")
		again.clock.Advance(time.Minute)
		if st := again.store.Status(); st.Keys != 0 || st.Bytes != 0 {
			t.Errorf("%s: %+v", way, st)
		}
	}
	d.clock.Advance(time.Minute)
	d.store.Status()
	if len(journal) != 0 {
		t.Errorf("the journal has %d of what is forgotten", len(journal))
	}
	for _, bad := range []string{"", "{}", `{"key":"AA==","why":"lost"}`} {
		if err := d.store.Recover([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestARequestWhoseAnswerIsDamagedIsNotDoneAgain(t *testing.T) {
	d := newDesk(t, replay.Options{}, replay.Policy{})
	var key string
	d.store.Journal(func(k replay.Kept) { key = k.ID })
	d.want(request("a", "5 euros"), "200 1: 5 euros")
	again := newDesk(t, replay.Options{}, replay.Policy{})
	if err := again.store.Lose(key); err != nil {
		t.Fatal(err)
	}
	again.want(request("a", "5 euros"), "409 idempotency_lost")
	again.want(request("b", "5 euros"), "200 1: 5 euros")
	if again.store.Lose("x") == nil {
		t.Error("a key that is none was taken")
	}
}

func TestWhatCannotBeKeptIsNotToldAgain(t *testing.T) {
	full := errors.New("no room")
	d := newDesk(t, replay.Options{Wait: func() error { return full }}, replay.Policy{})
	d.want(request("a", ""), "200 1: ") // that it is not told is the pool's affair
	d.want(request("a", ""), "503 durability_unavailable")
	full = nil
	d.want(request("a", ""), "200 1:  again")
}

func FuzzAnAnswerOfBefore(f *testing.F) {
	d := newDesk(&testing.T{}, replay.Options{}, replay.Policy{})
	d.gets(request("a", "1"))
	for _, one := range d.store.Snapshot() {
		data, err := json.Marshal(one)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDesk(t, replay.Options{}, replay.Policy{})
		if err := d.store.Recover(data); err != nil {
			return
		}
		if st := d.store.Status(); st.Keys > 1 || st.Bytes < 0 {
			t.Errorf("%+v", st)
		}
	})
}
