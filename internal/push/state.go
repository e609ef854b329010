package push

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/statefile"
)

// savedSession is a session in the file of sessions: one line of JSON.
type savedSession struct {
	Page       string       `json:"page"`
	User       string       `json:"user,omitempty"`
	Connection string       `json:"connection,omitempty"`
	Epoch      string       `json:"epoch"`
	Client     string       `json:"client,omitempty"`
	Claimed    bool         `json:"claimed,omitempty"` // by a request
	Instance   uint32       `json:"instance"`
	Attaches   uint32       `json:"attaches"`
	Last       uint64       `json:"last"`
	Acked      uint64       `json:"acked"`
	Got        uint64       `json:"got"`
	Tail       []string     `json:"tail,omitempty"` // frames without their numbers, which end at Last
	Replies    []savedReply `json:"replies,omitempty"`
	Running    []uint64     `json:"running,omitempty"`
	Waiting    []uint64     `json:"waiting,omitempty"` // the handler has kept them, and does them at the start
}

// savedReply is a reply that the client has not acknowledged.
type savedReply struct {
	ID   uint64 `json:"id"`
	N    uint64 `json:"n,omitempty"` // of its frame; 0: it waits until the client asks again
	Body string `json:"body"`
}

// stateFile is the file of sessions; a line is a tail, its newest frame, and the replies,
// all of which the configuration bounds.
var stateFile = statefile.Kind{Name: "guado-push", Version: 1}

// Freeze ends all changes of the sessions there are and takes no new ones: from then on
// [Session.Describe] gives all of them.
func (h *Hub) Freeze() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	for _, s := range h.Sessions() {
		s.freeze()
	}
}

// Describe gives a session as [Hub.Load] takes it. Of one that is in use that is only what a
// client can begin anew with: its stream, which changes with every frame, is not in it.
func (s *Session) Describe() ([]byte, error) {
	owner := s.Owner()
	s.mu.Lock()
	v := s.savedLocked(owner)
	if !s.frozen {
		// Messages that the handler does not have yet come again.
		for i := range s.events {
			if m := &s.events[i]; m.kind == eventMessage {
				v.Got = min(v.Got, m.message.ID-1)
			}
		}
		v.Acked, v.Tail, v.Replies, v.Running, v.Waiting = v.Last, nil, nil, nil, nil
	}
	s.mu.Unlock()
	return json.Marshal(v)
}

// freeze ends all changes of a session and describes it.
func (s *Session) freeze() *savedSession {
	owner := s.Owner()
	s.mu.Lock()
	s.detachLocked(CodeRestart)
	s.frozen = true
	s.failWaitersLocked(ErrStopping)
	out := s.savedLocked(owner)
	s.mu.Unlock()
	s.tell()
	return out
}

// Waiting says which of the client's requests have not begun: the handler keeps them, and
// answers them after the start. false: the session can still change, so that who asked asks again.
func (s *Session) Waiting(ids []uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.frozen || s.calls == nil {
		return false
	}
	s.calls.waiting = ids
	return true
}

func (s *Session) savedLocked(owner Owner) *savedSession {
	out := &savedSession{
		Page: s.page, User: owner.User, Connection: owner.Connection, Epoch: epochText(s.epoch),
		Client: s.client, Claimed: s.claimed, Instance: s.instance, Attaches: s.attaches, Last: s.last, Acked: s.acked, Got: s.got,
	}
	for i := range s.tail.entries {
		out.Tail = append(out.Tail, string(s.tail.entries[i].body))
	}
	if c := s.calls; c != nil {
		for _, id := range c.running {
			if slices.Contains(c.waiting, id) {
				out.Waiting = append(out.Waiting, id)
			} else {
				out.Running = append(out.Running, id)
			}
		}
		for _, k := range c.kept {
			r := savedReply{k.id, k.n, string(k.body)}
			if k.n == never {
				r.N = 0
			}
			out.Replies = append(out.Replies, r)
		}
	}
	return out
}

func readSession(line []byte) (*savedSession, error) {
	v := &savedSession{}
	if err := json.Unmarshal(line, v); err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("page %q: %w", v.Page, err)
	}
	return v, nil
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
	for _, id := range slices.Concat(v.Running, v.Waiting) {
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
		client: v.Client, claimed: v.Claimed, instance: v.Instance, attaches: v.Attaches,
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
	if len(v.Waiting) > 0 {
		s.callsLocked().running = v.Waiting
	}
	// Whoever had them is gone with the old process.
	for _, id := range v.Running {
		s.replyLocked(id, errorPayload(id, &ReplyError{Code: ReplyLost, Message: "the host was restarted meanwhile"}))
	}
	return s
}
