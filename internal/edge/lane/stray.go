package lane

import (
	"log/slog"
	"sync"

	"github.com/guado-server/guado/internal/exchange"
)

// StrayOrders warns, once, that an application names files for the host to send on a
// mount that declares no folder: its clients get empty answers.
type StrayOrders struct{ once sync.Once }

// Warn is called for each such answer.
func (s *StrayOrders) Warn(log *slog.Logger, x *exchange.Exchange) {
	s.once.Do(func() {
		log.Warn("an answer had X-Accel-Redirect or X-Sendfile, which was dropped: declare the folder as sendfile on its [[mount]]",
			"app", x.App, "request_id", x.ID)
	})
}
