package edge

import "github.com/guado-server/guado/internal/exchange"

// BeginMessage gives a place in a trace to an exchange that the host makes of a message,
// as requests of clients have one.
func (s *Server) BeginMessage(x *exchange.Exchange) { s.now.Load().prepare.beginTrace(x) }

// EndMessage logs and counts it, as theirs are.
func (s *Server) EndMessage(x *exchange.Exchange, out exchange.Outcome) { s.done(x, out) }
