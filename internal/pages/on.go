package pages

import (
	"context"
	"encoding/json"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// On runs the functions that an application has for the events of a topic, and waits for
// their end. They belong to no page; while no worker takes them, they are tried again.
func (p *Pages) On(ctx context.Context, app, topic string, data json.RawMessage) error {
	t := &exchange.Turn{Do: exchange.TurnOn, Topic: topic, Data: data}
	for began, try := time.Now(), 0; ; try++ {
		out := p.on(ctx, app, t)
		switch {
		case out.err == nil:
			return nil
		case !out.wait || time.Since(began) >= mostPatience || ctx.Err() != nil || !p.pause(retryDelay(try)):
			return out.err
		}
	}
}

func (p *Pages) on(ctx context.Context, app string, t *exchange.Turn) outcome {
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-p.over:
		return stopped()
	case <-ctx.Done():
		return stopped()
	}
	x := p.exchange("event")
	x.Turn = t
	c := &call{Collected: exchange.Collected{Limit: mostArgs}, app: app}
	x.Answer, x.App = c, app
	defer context.AfterFunc(ctx, func() { x.SetGone(exchange.Closed) })()
	p.count.turns.Add(1)
	p.opts.Turns().Serve(x)
	p.opts.Settle(x.Worker)
	return ofTurn(&c.Collected)
}
