package exchange

// TurnKind is what a turn does, as the link writes it.
type TurnKind uint8

// The turns that there are; protocol/link.md says what they mean.
const (
	TurnOpen TurnKind = 1 + iota
	TurnMessage
	TurnRequest
	TurnSnapshot
	TurnClose
	TurnEvent
	TurnOn
	TurnHTTP
	TurnWrite
)

var turnNames = [...]string{"", "open", "message", "request", "snapshot", "close", "event", "on", "http", "write"}

// String is the turn's name, for people.
func (k TurnKind) String() string {
	if int(k) < len(turnNames) {
		return turnNames[k]
	}
	return "?"
}

// Turn is a call of a handler of a page's class, or of the functions that hear an event.
// An exchange that has one asks for nothing else: it has neither path nor fields nor body.
type Turn struct {
	Do         TurnKind
	Opened     bool // on_open has succeeded before
	Page       string
	User       string
	Connection string
	Class      string
	Args       []byte // JSON, as Data; may be nil
	Topic      string
	Why        string
	Data       []byte
}
