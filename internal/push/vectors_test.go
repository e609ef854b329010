package push

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// vectors are the golden vectors, which the client's tests read, too: what one side of a
// transcript sends the other one expects.
type vectors struct {
	Version int `json:"version"`
	Codes   []struct {
		Code   Code   `json:"code"`
		Name   string `json:"name"`
		Return bool   `json:"return"`
	} `json:"codes"`
	Frames []struct {
		Text  string         `json:"text"`
		Means map[string]any `json:"means"`
	} `json:"frames"`
	Malformed []struct {
		Text string `json:"text"`
		Why  string `json:"why"`
	} `json:"malformed"`
	Hellos []struct {
		Text string `json:"text"`
		Code Code   `json:"code"`
	} `json:"hellos"`
	Transcripts []struct {
		Name  string                       `json:"name"`
		Steps []map[string]json.RawMessage `json:"steps"`
	} `json:"transcripts"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	text, err := os.ReadFile("../../protocol/vectors/push.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if v.Version != Version || len(v.Transcripts) < 10 {
		t.Fatalf("version %d, %d transcripts", v.Version, len(v.Transcripts))
	}
	return v
}

func TestCodesAreThoseOfTheVectorsAndOfTheProtocol(t *testing.T) {
	v := readVectors(t)
	named := map[Code]string{}
	for _, c := range v.Codes {
		named[c.Code] = c.Name
		if c.Code.Return() != c.Return {
			t.Errorf("%d: Return() = %v", c.Code, c.Code.Return())
		}
	}
	if !maps.Equal(named, Codes) {
		t.Errorf("the vectors have %v, the code %v", named, Codes)
	}
	page, err := os.ReadFile("../../protocol/push.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[Code]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (3[0-9]{3}) \\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		documented[Code(n)] = m[2]
	}
	if !maps.Equal(documented, Codes) {
		t.Errorf("push.md has %v, the code %v", documented, Codes)
	}
}

func TestFramesOfTheVectorsAreDecoded(t *testing.T) {
	for _, v := range readVectors(t).Frames {
		f, err := decode([]byte(v.Text))
		if err != nil {
			t.Errorf("%s: %v", v.Text, err)
			continue
		}
		got := map[string]any{}
		if f.hasAck {
			got["a"] = float64(f.ack)
		}
		if f.id != 0 {
			got["c"] = float64(f.id)
		}
		if f.cancel != 0 {
			got["x"] = float64(f.cancel)
		}
		if f.probe {
			got["p"] = float64(1)
		}
		if f.to != "" {
			got["to"] = f.to
		}
		if f.hasData {
			key := "m"
			if f.request {
				key = "q"
			}
			if f.write {
				key = "w"
			}
			var data any
			if err := json.Unmarshal(f.data, &data); err != nil {
				t.Errorf("%s: data %q: %v", v.Text, f.data, err)
			}
			got[key] = data
		}
		if !reflect.DeepEqual(got, v.Means) {
			t.Errorf("%s: %v", v.Text, got)
		}
	}
}

func TestMalformedFramesOfTheVectorsEndTheConnectionForGood(t *testing.T) {
	for _, v := range readVectors(t).Malformed {
		h := New(Options{}, &told{})
		opened(t, h, "p", Owner{})
		a, w := joined(t, h, Hello{Page: "p", Client: "c"})
		refusal := a.Receive([]byte(v.Text))
		if refusal == nil || refusal.Code != CodeProtocol || len(w.codes) != 1 || w.codes[0] != CodeProtocol {
			t.Errorf("%s (%s): %v, closed with %v", v.Text, v.Why, refusal, w.codes)
		}
		h.Close()
	}
}

func TestHellosOfTheVectorsAreRefused(t *testing.T) {
	h := New(Options{}, &told{})
	defer h.Close()
	for _, v := range readVectors(t).Hellos {
		hello, refusal := DecodeHello([]byte(v.Text))
		if refusal == nil {
			_, refusal = h.Attach(hello, "", &wire{})
		}
		if refusal == nil || refusal.Code != v.Code {
			t.Errorf("%s: %v", v.Text, refusal)
		}
	}
}

func TestTranscripts(t *testing.T) {
	for _, v := range readVectors(t).Transcripts {
		t.Run(v.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &player{t: t, handler: &told{}, dir: t.TempDir()}
				p.hub = p.newHub()
				p.session = opened(t, p.hub, "page-1", Owner{})
				for i, step := range v.Steps {
					for what, value := range step {
						p.step = strconv.Itoa(i+1) + " " + what + " " + string(value)
						p.play(what, value)
					}
				}
				p.done()
			})
		})
	}
}

// player plays the host's part of a transcript.
type player struct {
	t       *testing.T
	hub     *Hub
	handler *told
	session *Session
	wire    *wire
	here    *Attachment
	epochs  uint64
	last    Pushed
	dir     string
	step    string
}

func (p *player) newHub() *Hub {
	h := New(Options{TailBytes: 1000}, p.handler)
	h.newEpoch = func() uint64 { p.epochs++; return p.epochs }
	return h
}

func (p *player) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("step %s: "+format, append([]any{p.step}, args...)...)
}

func (p *player) play(what string, value json.RawMessage) {
	p.t.Helper()
	switch what {
	case "connect":
		p.wire, p.here = &wire{}, nil
	case ">":
		p.receive(value)
	case "<", "vanished":
		got := p.wire.take()
		if got == "" {
			p.fail("no frame came")
		}
		p.same(got, value)
	case "close":
		code, err := strconv.Atoi(string(value))
		if err != nil {
			p.t.Fatal(err)
		}
		if len(p.wire.codes) != 1 || p.wire.codes[0] != Code(code) {
			p.fail("closed with %v", p.wire.codes)
		}
	case "cut":
		if p.here != nil {
			p.here.Lost()
		}
	case "push":
		p.push(value, false)
	case "prompt":
		p.push(value, true)
	case "snapshot":
		s, err := p.hub.NewSnapshot(value)
		if err == nil {
			_, err = p.session.Push(s)
		}
		if err != nil {
			p.fail("%v", err)
		}
	case "all", "values":
		list, err := p.hub.NewValues(value, what == "all")
		if err == nil {
			_, err = p.session.Push(list)
		}
		if err != nil {
			p.fail("%v", err)
		}
	case "overflow":
		n, err := strconv.Atoi(string(value))
		if err != nil {
			p.t.Fatal(err)
		}
		for range n {
			p.push(marshal(p.t, strings.Repeat("x", 300)), false)
		}
	case "acked":
		if err := p.session.Wait(p.t.Context(), p.last.N); err != nil {
			p.fail("%v", err)
		}
	case "tick":
		time.Sleep(time.Second)
		synctest.Wait()
	case "beat":
		time.Sleep(p.hub.opts.Beat + time.Second)
		synctest.Wait()
	case "slow":
		p.wire.queued = p.hub.opts.Waiting + 1
	case "end":
		p.endPage(value)
	case "refuse":
		p.refusePage(value)
	case "restart":
		p.restart()
	case "crash":
		p.hub.Close()
		p.wire.all()
		p.hub = p.newHub()
		p.session = opened(p.t, p.hub, "page-1", Owner{})
	default:
		p.application(what, value)
	}
}

func (p *player) endPage(value json.RawMessage) {
	code, err := strconv.Atoi(string(value))
	if err != nil {
		p.t.Fatal(err)
	}
	p.session.End(Code(code))
	if e, ok := p.handler.next().(endedEvent); !ok || e.Code != Code(code) {
		p.fail("the handler was told %v", e)
	}
}

func (p *player) refusePage(value json.RawMessage) {
	var said ReplyError
	if err := json.Unmarshal(value, &said); err != nil {
		p.t.Fatal(err)
	}
	p.session.Refuse(&said)
	p.session.Refuse(&said) // once is enough
	if e, ok := p.handler.next().(endedEvent); !ok || e.Code != CodeRefused {
		p.fail("the handler was told %v", e)
	}
}

// application plays and checks what is behind the host. What only the client's side of a
// transcript does and sees is left out.
func (p *player) application(what string, value json.RawMessage) {
	p.t.Helper()
	var v struct {
		ID             uint64
		Request, Write bool
		To, Message    string
		Data           json.RawMessage
		Code           string
		First, Resumed bool
		Why            Why
	}
	switch what {
	case "handled", "opened", "reply", "fail":
		if err := json.Unmarshal(value, &v); err != nil {
			p.t.Fatal(err)
		}
	}
	switch what {
	case "handled":
		m, ok := p.handler.next().(Message)
		if !ok || m.ID != v.ID || m.Request != v.Request || m.Write != v.Write || m.To != v.To {
			p.fail("the handler was told %+v", m)
		}
		p.same(string(m.Data), v.Data)
	case "opened":
		if e, ok := p.handler.next().(openedEvent); !ok || e.Opening != (Opening{v.First, v.Resumed, v.Why, false}) {
			p.fail("the handler was told %+v", e)
		}
	case "cancelled":
		if r, ok := p.handler.next().(Ref); !ok || strconv.FormatUint(r.ID, 10) != string(value) {
			p.fail("the handler was told %+v", r)
		}
	case "reply":
		if err := p.session.Reply(Ref{p.session.instance, v.ID}, v.Data); err != nil {
			p.fail("%v", err)
		}
	case "fail":
		if err := p.session.Fail(Ref{p.session.instance, v.ID}, &ReplyError{v.Code, v.Message}); err != nil {
			p.fail("%v", err)
		}
	case "vanish", "send", "request", "abort", "settled", "state", "message", "shown", "as", "to", "write", "has", "heard":
	default:
		p.fail("nobody knows what this is")
	}
}

func (p *player) receive(value json.RawMessage) {
	p.t.Helper()
	if p.here != nil {
		if refusal := p.here.Receive(value); refusal != nil {
			p.fail("%v", refusal)
		}
		return
	}
	hello, refusal := DecodeHello(value)
	if refusal == nil {
		p.here, refusal = p.hub.Attach(hello, "", p.wire)
	}
	if refusal != nil {
		p.wire.Close(refusal.Code)
	}
}

func (p *player) push(value json.RawMessage, prompt bool) {
	p.t.Helper()
	m, err := p.hub.NewMessage(value, prompt)
	if err == nil {
		p.last, err = p.session.Push(m)
	}
	if err != nil {
		p.fail("%v", err)
	}
}

func (p *player) restart() {
	p.t.Helper()
	file := filepath.Join(p.dir, "sessions")
	if err := p.hub.Save(file); err != nil {
		p.fail("%v", err)
	}
	p.hub.Close()
	p.hub = p.newHub()
	all, err := p.hub.Restore(file)
	if err != nil || len(all) != 1 {
		p.fail("%v, %d sessions", err, len(all))
	}
	p.session = all[0]
}

func (p *player) same(got string, want json.RawMessage) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("in step %s", p.step)
		}
	}()
	sameJSON(p.t, got, want)
}

func (p *player) done() {
	if p.wire != nil {
		if rest := p.wire.all(); len(rest) > 0 {
			p.fail("then there was more: %v", rest)
		}
	}
	if e := p.handler.next(); e != nil {
		p.fail("then the handler was told %+v", e)
	}
	p.hub.Close()
}
