package wsx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// mark is what every message begins with.
const mark = "WSX://"

// envelope is a message of a client.
type envelope struct {
	ID     json.RawMessage `json:"id"`
	Path   string          `json:"path"`
	PageID string          `json:"page_id"`
	Data   json.RawMessage `json:"data"`

	bare bool // it came without the mark, and so does its answer
}

var errNoMessage = errors.New("neither " + mark + " nor a JSON object")

func decode(p []byte) (*envelope, error) {
	e := &envelope{}
	rest, marked := bytes.CutPrefix(p, []byte(mark))
	e.bare = !marked
	if !marked && (len(p) == 0 || p[0] != '{') {
		return nil, errNoMessage
	}
	if err := json.Unmarshal(rest, e); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoMessage, err)
	}
	if string(e.ID) == "null" {
		e.ID = nil
	}
	return e, nil
}

// payload is what a message carries, as JSON. typed: strings in it have suffixes that say
// their types.
type payload struct {
	json  []byte
	typed bool
}

var errPayload = errors.New("data is no JSON within a pair of quotes")

// payload unwraps data: a string that has JSON between quotes which are part of it,
// followed by a mark if it is typed. Plain JSON is taken, too.
func (e *envelope) payload() (payload, error) {
	if len(e.Data) == 0 || string(e.Data) == "null" {
		return payload{}, nil
	}
	if e.Data[0] != '"' {
		return payload{json: e.Data}, nil
	}
	var text string
	if err := json.Unmarshal(e.Data, &text); err != nil {
		return payload{}, fmt.Errorf("%w: %w", errPayload, err)
	}
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	text, typed := strings.CutSuffix(text, typedMark)
	if !json.Valid([]byte(text)) {
		return payload{}, errPayload
	}
	return payload{json: []byte(text), typed: typed}, nil
}

const typedMark = "::JS"

// wrap makes data of JSON.
func wrap(p []byte) string { return `"` + string(p) + `"` }

// wrapText makes data of a text.
func wrapText(text string) string { return wrap(quote(text)) }

// quote gives a text in JSON, "<" and the like as they are.
func quote(text string) []byte {
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	_ = to.Encode(text) // a string has a form in JSON, and a buffer takes it
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// reply makes the frame of an answer. data is empty or wrapped.
func (e *envelope) reply(status int, data string) []byte {
	b := make([]byte, 0, len(data)+len(data)/8+len(e.ID)+64)
	if !e.bare {
		b = append(b, mark...)
	}
	b = append(append(append(b, `{"id":`...), e.ID...), fmt.Sprintf(`,"status":%d`, status)...)
	if data != "" {
		b = append(append(b, `,"data":`...), quote(data)...)
	}
	return append(b, '}')
}
