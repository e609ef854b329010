package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"unicode/utf8"
)

// Payload is what stands in a numbered frame behind its number. It is made once,
// whoever gets it: sessions share its bytes and put their own number in front.
type Payload struct{ body []byte }

// Len is its length on the wire, without the number.
func (p Payload) Len() int { return len(p.body) }

// NewMessage makes a message of JSON data. A prompt one asks the client to acknowledge
// it at once, because somebody waits for that.
func (h *Hub) NewMessage(data []byte, prompt bool) (Payload, error) {
	if prompt {
		return h.payload(`"w":1,"m":`, data)
	}
	return h.payload(`"m":`, data)
}

// NewSnapshot makes a snapshot of JSON data.
func (h *Hub) NewSnapshot(data []byte) (Payload, error) { return h.payload(`"s":`, data) }

// NewValues makes what tells of shared values: a JSON list of changes, or all that is shared.
func (h *Hub) NewValues(list []byte, all bool) (Payload, error) {
	if all {
		return h.payload(`"h":`, list)
	}
	return h.payload(`"v":`, list)
}

func (h *Hub) payload(head string, data []byte) (Payload, error) {
	if len(data) > h.opts.Message {
		return Payload{}, fmt.Errorf("%w: %d bytes of JSON, where push.message allows %d", ErrTooBig, len(data), h.opts.Message)
	}
	if !json.Valid(data) || !utf8.Valid(data) {
		return Payload{}, ErrNotJSON
	}
	// A frame is one line, so that any transport can carry it: line ends are only white
	// space here, for in a string JSON escapes them.
	if bytes.ContainsAny(data, "\r\n") {
		var b bytes.Buffer
		if err := json.Compact(&b, data); err != nil {
			return Payload{}, ErrNotJSON
		}
		data = b.Bytes()
	}
	body := make([]byte, 0, len(head)+len(data)+1)
	body = append(append(append(body, head...), data...), '}')
	return Payload{body}, nil
}

func (h *Hub) replyPayload(id uint64, data []byte, cookies string) (Payload, error) {
	head := `"r":` + strconv.FormatUint(id, 10)
	if cookies != "" {
		head += `,"k":"` + cookies + `"`
	}
	return h.payload(head+`,"d":`, data)
}

func errorPayload(id uint64, e *ReplyError) Payload {
	body := strconv.AppendUint([]byte(`"r":`), id, 10)
	return Payload{append(append(append(body, `,"e":`...), e.text()...), '}')}
}

func (e *ReplyError) text() []byte {
	text, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message,omitempty"`
	}{e.Code, e.Message})
	if err != nil { // two strings always have a JSON form
		return []byte(`{"code":"failed"}`)
	}
	return text
}

// appendNumbered appends a whole frame.
func appendNumbered(b []byte, n uint64, p Payload) []byte {
	b = append(b, `{"n":`...)
	b = strconv.AppendUint(b, n, 10)
	b = append(b, ',')
	return append(b, p.body...)
}

var (
	beatFrame  = []byte(`{}`)
	probeFrame = []byte(`{"p":1}`)
)

func appendGot(b []byte, got uint64) []byte {
	b = append(b, `{"g":`...)
	return append(strconv.AppendUint(b, got, 10), '}')
}

// CloseFrame is how a transport without close codes of its own says why it ends.
func CloseFrame(c Code) []byte {
	b := strconv.AppendUint([]byte(`{"t":"close","code":`), uint64(c), 10)
	return append(append(append(b, `,"reason":"`...), c.Name()...), `"}`...)
}

// refusedFrame says what the application said of a page that it refuses: that is more than
// a code, over any transport.
func refusedFrame(e *ReplyError) []byte {
	b := bytes.TrimSuffix(CloseFrame(CodeRefused), []byte("}"))
	return append(append(append(b, `,"e":`...), e.text()...), '}')
}

// greeting is the host's hello.
type greeting struct {
	Type    string `json:"t"`
	Version int    `json:"v"`
	ID      uint32 `json:"id"`
	Epoch   string `json:"epoch"`
	At      uint64 `json:"at"`
	Resumed bool   `json:"resumed"`
	Why     Why    `json:"why,omitempty"`
	Kept    bool   `json:"kept,omitempty"`
	Got     uint64 `json:"got"`
	Beat    int64  `json:"beat"`
	Window  int64  `json:"window"`
	Max     int    `json:"max"`
}

func (g greeting) frame() []byte {
	g.Type, g.Version = "hello", Version
	b, err := json.Marshal(g)
	if err != nil { // numbers and words always have a JSON form
		panic(err)
	}
	return b
}

func windowFrame(ms int64) []byte {
	return append(strconv.AppendInt([]byte(`{"t":"window","ms":`), ms, 10), '}')
}

// buffers are where frames are put together: a transport copies what it keeps.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

const keptBuffer = 64 << 10

func giveBack(b *[]byte) {
	if cap(*b) <= keptBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
