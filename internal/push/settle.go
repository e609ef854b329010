package push

import (
	"encoding/json"
	"fmt"
	"slices"
)

// settled is what is known of a client's messages whose changes are real: it is kept together
// with these changes, because a message that is done must not be done again, and who asked gets
// the reply.
type settled struct {
	Instance uint32       `json:"instance"`
	Got      uint64       `json:"got"`
	Open     []uint64     `json:"open,omitempty"` // below Got, and of these nothing was real
	Replies  []savedReply `json:"replies,omitempty"`
}

// lost reports whether nothing of a message was known to be real when the host ended.
func (v *settled) lost(id uint64) bool {
	return v != nil && (id > v.Got || slices.Contains(v.Open, id))
}

// Settle gives what must be kept with the changes that a message has made, which are about to
// be real: its reply, data or an error, and those that the client does not have yet. Of a message
// that wants no reply it is only kept that it was done. nil: it is none of this session's.
func (s *Session) Settle(r Ref, request bool, data []byte, said *ReplyError) []byte {
	var p Payload
	if request {
		var err error
		if p, err = s.hub.replyPayload(r.ID, data, ""); err != nil && said == nil {
			said = &ReplyError{Code: ReplyLost, Message: "the reply cannot be kept"}
		}
		if said != nil {
			p = errorPayload(r.ID, said)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openLocked() != nil || r.Instance != s.instance {
		return nil
	}
	s.settled = max(s.settled, r.ID)
	if request && s.calls != nil && slices.Contains(s.calls.running, r.ID) {
		c := s.calls
		c.settled = append(slices.DeleteFunc(c.settled, func(k kept) bool { return k.id == r.ID }), kept{id: r.ID, Payload: p})
	}
	return s.settledLocked()
}

// Settled gives it again.
func (s *Session) Settled() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.openLocked() != nil || s.settled == 0 {
		return nil
	}
	return s.settledLocked()
}

func (s *Session) settledLocked() []byte {
	v := settled{Instance: s.instance, Got: s.settled}
	if s.calls != nil {
		for _, list := range [][]kept{s.calls.kept, s.calls.settled} {
			for _, k := range list {
				v.Replies = append(v.Replies, savedReply{ID: k.id, Body: string(k.body)})
			}
		}
		for _, id := range s.calls.running {
			if id < v.Got && !slices.ContainsFunc(s.calls.settled, func(k kept) bool { return k.id == id }) {
				v.Open = append(v.Open, id)
			}
		}
	}
	data, err := json.Marshal(&v)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return data
}

// Resettle takes back what was kept. The client has its replies when it asks again.
func (s *Session) Resettle(data []byte) error {
	var v settled
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if v.Got > maxID {
		return fmt.Errorf("message %d", v.Got)
	}
	for _, r := range v.Replies {
		if r.ID == 0 || r.ID > v.Got {
			return fmt.Errorf("reply to message %d, and the last one is %d", r.ID, v.Got)
		}
		if err := checkBody(r.Body); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Instance != s.instance {
		return nil // another client has come since, and begun anew
	}
	s.settled, s.known = max(s.settled, v.Got), &v
	s.got, s.told = max(s.got, v.Got), max(s.told, v.Got)
	for _, r := range v.Replies {
		s.callsLocked().keep(r.ID, never, Payload{[]byte(r.Body)}, s.hub.opts.Replies)
	}
	return nil
}
