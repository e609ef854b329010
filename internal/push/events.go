package push

import "errors"

// event is news for the handler. They are queued under the session's lock and told
// without it, by one goroutine at a time: that keeps their order without a lock held
// during a callback.
type event struct {
	kind    eventKind
	opening Opening
	message Message
	code    Code
}

type eventKind uint8

const (
	eventOpened eventKind = iota
	eventMessage
	eventCancelled
	eventAway
	eventEnded
)

// mostEvents is how much may wait for a handler that is behind, beside Options.Waiting
// bytes. More messages are refused as busy.
const mostEvents = 256

// tell tells the handler what waits. Whoever finds somebody at it leaves it to him.
func (s *Session) tell() {
	s.mu.Lock()
	if s.telling {
		s.mu.Unlock()
		return
	}
	for len(s.events) > 0 {
		todo := s.events
		s.events, s.waiting, s.telling = nil, 0, true
		s.mu.Unlock()
		for i := range todo {
			s.tellOne(&todo[i])
		}
		s.mu.Lock()
		s.keeps = s.hub.opts.Position()
	}
	s.telling = false
	s.mu.Unlock()
}

func (s *Session) tellOne(e *event) {
	h := s.hub.handler
	switch e.kind {
	case eventOpened:
		h.Opened(s, e.opening)
	case eventMessage:
		err := h.Message(s, e.message)
		if err == nil {
			return
		}
		reply := &ReplyError{Code: ReplyFailed, Message: "the message could not be handled"}
		errors.As(err, &reply)
		s.refuseMessage(e.message, reply)
	case eventCancelled:
		h.Cancelled(s, e.message.Ref)
	case eventAway:
		h.Away(s)
	case eventEnded:
		h.Ended(s, e.code)
	}
}
