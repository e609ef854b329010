package pages

import (
	"bytes"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// Kept is what is kept of a page's messages with the changes that they have made.
type Kept struct {
	Page string
	Data []byte
}

// settler keeps what became of a message with what it has changed: see [exchange.Once].
type settler struct {
	page *page
	job  *job
	read func(*exchange.Collected) outcome
}

// settles has the outcome of a client's message kept, where anything is.
func (pg *page) settles(j *job, x *exchange.Exchange, read func(*exchange.Collected) outcome) {
	if pg.pages.opts.Decode != nil && j.ref.ID != 0 {
		x.Once = &settler{pg, j, read}
	}
}

// Keeps see [exchange.Once].
func (s *settler) Keeps(payload []byte) any {
	out := outcome{err: &push.ReplyError{Code: push.ReplyLost, Message: "it was done, or some of it, and its answer is not known"}}
	if payload != nil {
		if h, body, err := s.page.pages.opts.Decode(payload, nil); err == nil {
			// The bytes are the link's, and a reply with cookies is one that is fetched.
			a := exchange.Collected{Status: h.Status, Fields: h.Fields, Body: bytes.Clone(body)}
			if a.Field("set-cookie") == nil {
				out = s.read(&a)
			}
		}
	}
	data := out.data
	if data == nil {
		data = []byte("null")
	}
	kept := s.page.session.Settle(s.job.ref, s.job.reply, data, out.err)
	if kept == nil {
		return nil
	}
	return Kept{s.page.id, kept}
}

// Committed see [exchange.Once].
func (*settler) Committed() {}

// Answered see [exchange.Once].
func (*settler) Answered([]byte) {}

// Settled gives what is kept of a page's messages; nil: nothing is.
func (p *Pages) Settled(id string) []byte {
	if pg := p.page(id); pg != nil {
		return pg.session.Settled()
	}
	return nil
}

// Resettle takes it back.
func (p *Pages) Resettle(id string, data []byte) error {
	pg := p.page(id)
	if pg == nil {
		return ErrNoPage
	}
	return pg.session.Resettle(data)
}
