package item

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// AppendJSON appends the item as encoding/json has it, without looking at its type each time:
// an application that looks one up waits for it.
func (i *Item) AppendJSON(b []byte) []byte {
	b = append(append(b, `{"kind":"`...), i.Kind.String()...)
	b = appendText(append(b, `","id":`...), i.ID)
	b = member(b, `,"user":`, i.User)
	b = member(b, `,"connection":`, i.Connection)
	b = member(b, `,"flag":`, i.Flag)
	b = moment(append(b, `,"started":"`...), i.Started)
	b = moment(append(b, `,"last_seen":"`...), i.Seen)
	b = member(b, `,"address":`, i.Address)
	b = member(b, `,"user_agent":`, i.Agent)
	b = member(b, `,"app":`, i.App)
	b = member(b, `,"class":`, i.Class)
	b = member(b, `,"path":`, i.Path)
	b = flag(b, `,"connected":true`, i.Connected)
	b = flag(b, `,"claimed":true`, i.Claimed)
	b = number(b, `,"pages":`, int64(i.Pages))
	b = number(b, `,"connections":`, int64(i.Connections))
	b = number(b, `,"bytes":`, i.Bytes)
	if len(i.Fields) > 0 {
		b = append(append(b, `,"fields":`...), i.Fields...)
	}
	return append(b, '}')
}

func member(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(append(b, name...), text)
}

func moment(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(b, time.RFC3339Nano), '"')
}

func flag(b []byte, text string, is bool) []byte {
	if is {
		b = append(b, text...)
	}
	return b
}

func number(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), n, 10)
}

// appendText quotes a text. What is not plain encoding/json quotes.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendSpecial(b, text)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

func appendSpecial(b []byte, text string) []byte {
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a text can always be written
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}
