package push

// Code says why a connection ends, and by its range whether the client comes back.
type Code uint16

// The codes of the protocol: 3000–3499 come back, 3500 and above do not.
const (
	CodeRestart  Code = 3000
	CodeReplaced Code = 3001
	CodeSlow     Code = 3002
	CodeSilent   Code = 3003
	CodeHello    Code = 3004
	CodeStale    Code = 3005
	CodeBusy     Code = 3006
	CodeMoved    Code = 3007
	CodeLogin    Code = 3008

	CodeProtocol  Code = 3500
	CodeVersion   Code = 3501
	CodeGone      Code = 3502
	CodeDuplicate Code = 3503
	CodeIdentity  Code = 3504
	CodeTooBig    Code = 3505
	CodeEvicted   Code = 3506
	CodeEnded     Code = 3507
	CodeRefused   Code = 3508
)

// firstFinal is the first code after which a client does not come back.
const firstFinal = 3500

// Codes are all codes, with the name that is sent as reason. The table of the protocol
// is held against it.
var Codes = map[Code]string{
	CodeRestart: "restart", CodeReplaced: "replaced", CodeSlow: "slow", CodeSilent: "silent",
	CodeHello: "hello_timeout", CodeStale: "stale", CodeBusy: "busy", CodeMoved: "moved", CodeLogin: "login",
	CodeProtocol: "protocol", CodeVersion: "version", CodeGone: "gone", CodeDuplicate: "duplicate",
	CodeIdentity: "identity", CodeTooBig: "too_big", CodeEvicted: "evicted", CodeEnded: "ended",
	CodeRefused: "refused",
}

// Name is the stable word for a code.
func (c Code) Name() string { return Codes[c] }

// Return reports whether the client comes back.
func (c Code) Return() bool { return c < firstFinal }
