package push

import (
	"fmt"
	"testing"
)

func TestABroadcastToManyKeepsTheOrderOfItsCaller(t *testing.T) {
	const pages, messages = 1000, 20
	hub := New(Options{}, nobody{})
	defer hub.Close()
	kept := make([]*recorder, pages)
	for i := range kept {
		page := fmt.Sprint("p", i)
		if _, err := hub.Open(page, Owner{}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			continue // nobody is there
		}
		kept[i] = &recorder{}
		if _, refusal := hub.Attach(Hello{Version: Version, Page: page, Client: "c"}, "", kept[i]); refusal != nil {
			t.Fatal(refusal)
		}
	}
	for m := range messages {
		p, err := hub.NewMessage(fmt.Append(nil, m), false)
		if err != nil {
			t.Fatal(err)
		}
		if sent := Push(p, hub.Sessions()); sent.Pages != pages || sent.Connected != pages*9/10 {
			t.Fatalf("%+v", sent)
		}
	}
	for i, k := range kept {
		if k == nil {
			continue
		}
		if len(k.frames) != 1+messages {
			t.Fatalf("page %d got %d frames", i, len(k.frames))
		}
		for m, frame := range k.frames[1:] {
			if want := fmt.Sprintf(`{"n":%d,"m":%d}`, m+1, m); frame != want {
				t.Fatalf("page %d got %s, not %s", i, frame, want)
			}
		}
	}
}

// recorder keeps what is sent; the session's lock guards it.
type recorder struct{ frames []string }

func (k *recorder) Send(frame []byte) (int, error) {
	k.frames = append(k.frames, string(frame))
	return 0, nil
}

func (k *recorder) Close(Code) {}

// nobody is a Handler that has nothing to do.
type nobody struct{}

func (nobody) Opened(*Session, Opening)        {}
func (nobody) Message(*Session, Message) error { return nil }
func (nobody) Cancelled(*Session, Ref)         {}
func (nobody) Away(*Session)                   {}
func (nobody) Ended(*Session, Code)            {}
