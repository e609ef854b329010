package push

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// savedSession is a session in the file of sessions: one line of JSON.
type savedSession struct {
	Page       string       `json:"page"`
	User       string       `json:"user,omitempty"`
	Connection string       `json:"connection,omitempty"`
	Epoch      string       `json:"epoch"`
	Client     string       `json:"client,omitempty"`
	Instance   uint32       `json:"instance"`
	Attaches   uint32       `json:"attaches"`
	Last       uint64       `json:"last"`
	Acked      uint64       `json:"acked"`
	Got        uint64       `json:"got"`
	Tail       []string     `json:"tail,omitempty"` // frames without their numbers, which end at Last
	Replies    []savedReply `json:"replies,omitempty"`
	Running    []uint64     `json:"running,omitempty"`
}

// savedReply is a reply that the client has not acknowledged.
type savedReply struct {
	ID   uint64 `json:"id"`
	N    uint64 `json:"n,omitempty"` // of its frame; 0: it waits until the client asks again
	Body string `json:"body"`
}

const (
	stateMagic   = "guado-push"
	stateVersion = 1
	// mostState bounds a line: a tail, its newest frame, and the replies.
	mostState = 16 << 20
)

var errState = errors.New("the file of push sessions is damaged")

// save writes all sessions, which change no more from then on. What is written is
// exactly what clients were told.
func (h *Hub) save(w io.Writer) error {
	sum := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	all := h.Sessions()
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	lines.SetEscapeHTML(false)
	if _, err := fmt.Fprintf(out, "%s %d %d\n", stateMagic, stateVersion, len(all)); err != nil {
		return err
	}
	for _, s := range all {
		b.Reset()
		if err := lines.Encode(s.freeze()); err != nil {
			return fmt.Errorf("write page %q: %w", s.page, err)
		}
		if _, err := out.Write(b.Bytes()); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "sha256 %s\n", hex.EncodeToString(sum.Sum(nil)))
	return err
}

// freeze ends all changes of a session and describes it.
func (s *Session) freeze() *savedSession {
	owner := s.Owner()
	s.mu.Lock()
	s.detachLocked(CodeRestart)
	s.frozen = true
	s.failWaitersLocked(ErrStopping)
	out := &savedSession{
		Page: s.page, User: owner.User, Connection: owner.Connection, Epoch: epochText(s.epoch),
		Client: s.client, Instance: s.instance, Attaches: s.attaches, Last: s.last, Acked: s.acked, Got: s.got,
	}
	for i := range s.tail.entries {
		out.Tail = append(out.Tail, string(s.tail.entries[i].body))
	}
	if c := s.calls; c != nil {
		for id := range c.running {
			out.Running = append(out.Running, id)
		}
		for _, k := range c.kept {
			r := savedReply{k.id, k.n, string(k.body)}
			if k.n == never {
				r.N = 0
			}
			out.Replies = append(out.Replies, r)
		}
	}
	s.mu.Unlock()
	s.tell()
	return out
}

// readState checks the whole file before it gives anything of it: never half a state.
func readState(r io.Reader) ([]*savedSession, error) {
	sum := sha256.New()
	in := bufio.NewReaderSize(r, 64<<10)
	line := func() ([]byte, error) {
		var whole []byte
		for {
			part, err := in.ReadSlice('\n')
			whole = append(whole, part...)
			switch {
			case err == nil:
				return whole, nil
			case !errors.Is(err, bufio.ErrBufferFull):
				return nil, fmt.Errorf("%w: it ends early: %w", errState, err)
			case len(whole) > mostState:
				return nil, fmt.Errorf("%w: a line is longer than %d bytes", errState, mostState)
			}
		}
	}
	head, err := line()
	if err != nil {
		return nil, err
	}
	sum.Write(head)
	words := strings.Fields(string(head))
	if len(words) != 3 || words[0] != stateMagic {
		return nil, fmt.Errorf("%w: it does not begin as one", errState)
	}
	if words[1] != strconv.Itoa(stateVersion) {
		return nil, fmt.Errorf("the file of push sessions has version %s, this Guado reads version %d", words[1], stateVersion)
	}
	count, err := strconv.Atoi(words[2])
	if err != nil || count < 0 {
		return nil, fmt.Errorf("%w: %q sessions", errState, words[2])
	}
	var all []*savedSession
	for range count {
		text, err := line()
		if err != nil {
			return nil, err
		}
		sum.Write(text)
		s := new(savedSession)
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("%w: %w", errState, err)
		}
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("%w: page %q: %w", errState, s.Page, err)
		}
		all = append(all, s)
	}
	last, err := line()
	if err != nil {
		return nil, err
	}
	if want := "sha256 " + hex.EncodeToString(sum.Sum(nil)) + "\n"; string(last) != want {
		return nil, fmt.Errorf("%w: its checksum is wrong", errState)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its end", errState)
	}
	return all, nil
}

// check wants a session that could have been.
func (v *savedSession) check() error {
	epoch, err := hex.DecodeString(v.Epoch)
	switch {
	case err != nil || len(epoch) != 8:
		return fmt.Errorf("epoch %q", v.Epoch)
	case v.Page == "" || len(v.Page) > maxName || len(v.Client) > maxClient:
		return errors.New("a name is empty or too long")
	case v.Last > maxID || v.Got > maxID || v.Acked > v.Last || uint64(len(v.Tail)) > v.Last:
		return fmt.Errorf("numbers do not fit: last %d, acknowledged %d, %d in the tail", v.Last, v.Acked, len(v.Tail))
	}
	for _, body := range v.Tail {
		if err := checkBody(body); err != nil {
			return err
		}
	}
	for _, r := range v.Replies {
		if r.ID == 0 || r.ID > v.Got || r.N > v.Last {
			return fmt.Errorf("reply to message %d in frame %d", r.ID, r.N)
		}
		if err := checkBody(r.Body); err != nil {
			return err
		}
	}
	for _, id := range v.Running {
		if id == 0 || id > v.Got {
			return fmt.Errorf("request %d, and the last one is %d", id, v.Got)
		}
	}
	return nil
}

func checkBody(body string) error {
	if len(body) < 2 || strings.ContainsAny(body, "\r\n") || !utf8.ValidString(body) || !json.Valid([]byte("{"+body)) {
		return errors.New("a frame is not JSON")
	}
	return nil
}

// session makes a session of what was saved. The time that the host was away does not
// count: nobody could have come back.
func (h *Hub) session(v *savedSession) *Session {
	now := h.wheel.clock()
	epoch, _ := strconv.ParseUint(v.Epoch, 16, 64) // check has seen it
	s := &Session{
		hub: h, page: v.Page, owner: Owner{v.User, v.Connection}, epoch: epoch,
		client: v.Client, instance: v.Instance, attaches: v.Attaches,
		last: v.Last, base: v.Last - uint64(len(v.Tail)), acked: v.Acked, got: v.Got, told: v.Got, left: now,
	}
	for _, body := range v.Tail {
		s.tail.add(Payload{[]byte(body)}, now)
	}
	for _, r := range v.Replies {
		n := r.N
		if n == 0 {
			n = never
		}
		s.callsLocked().keep(r.ID, n, Payload{[]byte(r.Body)}, math.MaxInt)
	}
	// Whoever had them is gone with the old process.
	for _, id := range v.Running {
		s.replyLocked(id, errorPayload(id, &ReplyError{Code: ReplyLost, Message: "the host was restarted meanwhile"}))
	}
	return s
}
