package pages

import (
	"bytes"
	"encoding/json"
	"strings"
)

// appendTo appends what json.Marshal gives of b, whose parts are JSON already and are
// not looked at once more: they are most of a turn.
func (b body) appendTo(p []byte) []byte {
	if p == nil {
		p = make([]byte, 0, 160+len(b.Class)+len(b.Args)+len(b.User)+len(b.Data)+len(b.Topic))
	}
	p = appendText(append(p, `{"do":`...), b.Do)
	p = appendMember(p, `,"page":`, b.Page)
	p = appendMember(p, `,"class":`, b.Class)
	p = appendRaw(p, `,"args":`, b.Args)
	if b.Opened {
		p = append(p, `,"opened":true`...)
	} else {
		p = append(p, `,"opened":false`...)
	}
	p = appendMember(p, `,"user":`, b.User)
	p = appendMember(p, `,"connection":`, b.Connection)
	p = appendRaw(p, `,"data":`, b.Data)
	p = appendMember(p, `,"topic":`, b.Topic)
	p = appendMember(p, `,"why":`, b.Why)
	return append(p, '}')
}

func appendMember(p []byte, key, text string) []byte {
	if text == "" {
		return p
	}
	return appendText(append(p, key...), text)
}

func appendRaw(p []byte, key string, data []byte) []byte {
	if len(data) == 0 {
		return p
	}
	return append(append(p, key...), data...)
}

// appendText appends a string; most need no escapes.
func appendText(p []byte, text string) []byte {
	plain := !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
	if !plain {
		quoted, err := json.Marshal(text)
		if err == nil { // a string always has a JSON form
			return append(p, quoted...)
		}
	}
	return append(append(append(p, '"'), text...), '"')
}

var dataHead = []byte(`{"data":`)

// dataOf gives what a handler returned, where the answer has nothing else. That it is JSON
// is seen when it is sent.
func dataOf(answer []byte) ([]byte, bool) {
	data, found := bytes.CutPrefix(answer, dataHead)
	if !found || len(data) < 2 || data[len(data)-1] != '}' {
		return nil, false
	}
	return data[:len(data)-1], true
}
