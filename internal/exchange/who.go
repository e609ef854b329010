package exchange

// Who is the client of an exchange, as far as the host knows it. It is valid until
// Handler.Serve returns.
type Who struct {
	Key        uint64 // numbers the exchange while it is under way
	Connection string // id; empty: there is none
	User       string // empty: a guest
	Page       string // id of the page that the request is of; empty: none, or not this connection's
}
