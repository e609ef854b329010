package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Hello is a client's first frame.
type Hello struct {
	Version int
	Page    string
	Client  string // the instance of the page's client
	Epoch   string // empty: it has no position
	At      uint64 // the last frame it has
}

// On is the first line of a batch of frames that come beside the connection: whose they
// are.
type On struct {
	Page   string
	Client string // of a bye
	ID     uint32 // the attachment, from the host's hello
	Bye    bool   // the page is closed, whatever it is attached by
	Token  string // for the cookies of a reply, which are wanted
}

const (
	maxID      = 1 << 53 // numbers of JavaScript are exact up to here
	maxName    = 128     // bytes of a page id
	maxClient  = 32
	maxTo      = 2 << 10
	helloBytes = 1 << 10
)

// frame is a decoded client frame. Slices point into what was decoded.
type frame struct {
	typ         string
	ack         uint64
	hasAck      bool
	id          uint64 // c
	data        []byte
	request     bool
	write       bool
	cancel      uint64 // x
	to          string
	probe       bool
	page        string
	client      string
	epoch       string
	at          uint64
	version     uint64
	attachment  uint64
	token       string
	hasData     bool
	hasPosition bool
}

var errMalformed = errors.New("malformed frame")

// field is one member of a frame's object.
type field struct {
	key   string
	value []byte
}

// decode reads a client's frame. The whole text is checked first, so that the walk over
// it may trust its syntax. Members that this version does not know are skipped: that is
// how the protocol grows.
func decode(p []byte) (frame, error) {
	var f frame
	if !json.Valid(p) || !utf8.Valid(p) {
		return f, fmt.Errorf("%w: not JSON in UTF-8", errMalformed)
	}
	var room [8]field
	fields, err := members(p, room[:0])
	if err != nil {
		return f, err
	}
	for i := range fields {
		for j := range fields[:i] {
			if fields[j].key == fields[i].key {
				return f, fmt.Errorf("%w: %q comes twice", errMalformed, fields[i].key)
			}
		}
		if err := f.set(fields[i].key, fields[i].value); err != nil {
			return f, fmt.Errorf("%w: %q: %w", errMalformed, fields[i].key, err)
		}
	}
	return f, f.check()
}

func (f *frame) set(key string, v []byte) (err error) {
	switch key {
	case "t":
		f.typ, err = text(v, 16)
	case "a":
		f.ack, err = number(v, 0)
		f.hasAck = true
	case "c":
		f.id, err = number(v, 1)
	case "m", "q", "w":
		if f.hasData {
			return errors.New("beside another one")
		}
		f.data, f.request, f.write, f.hasData = v, key != "m", key == "w", true
	case "x":
		f.cancel, err = number(v, 1)
	case "to":
		f.to, err = text(v, maxTo)
	case "p":
		f.probe = true
	case "page":
		f.page, err = text(v, maxName)
	case "client":
		f.client, err = text(v, maxClient)
	case "epoch":
		f.epoch, err = text(v, 32)
	case "at":
		f.at, err = number(v, 0)
		f.hasPosition = true
	case "v":
		f.version, err = number(v, 1)
	case "k":
		f.token, err = text(v, 64)
	case "id":
		f.attachment, err = number(v, 1)
	}
	return err
}

// check wants what belongs together.
func (f *frame) check() error {
	switch {
	case f.typ != "" && (f.id != 0 || f.hasData || f.cancel != 0):
		return fmt.Errorf("%w: %q with a message", errMalformed, f.typ)
	case f.id == 0 && (f.hasData || f.cancel != 0 || f.to != ""):
		return fmt.Errorf("%w: a message without a number", errMalformed)
	case f.id != 0 && f.hasData == (f.cancel != 0):
		return fmt.Errorf("%w: neither a message nor a cancellation", errMalformed)
	case f.cancel != 0 && f.cancel >= f.id:
		return fmt.Errorf("%w: it cancels what comes later", errMalformed)
	case f.hasPosition != (f.epoch != ""):
		return fmt.Errorf("%w: half a position", errMalformed)
	}
	return nil
}

// DecodeHello reads a client's first frame.
func DecodeHello(p []byte) (Hello, *Refusal) {
	if len(p) > helloBytes {
		return Hello{}, refuse(CodeProtocol, "%w: a hello of %d bytes", errMalformed, len(p))
	}
	f, err := decode(p)
	if err != nil {
		return Hello{}, &Refusal{CodeProtocol, err}
	}
	if f.typ != "hello" {
		return Hello{}, refuse(CodeProtocol, "%w: the first frame is no hello", errMalformed)
	}
	if f.version != Version {
		return Hello{}, refuse(CodeVersion, "the client speaks version %d of the push protocol, this host version %d", f.version, Version)
	}
	if f.page == "" || f.client == "" {
		return Hello{}, refuse(CodeProtocol, "%w: a hello without page or client", errMalformed)
	}
	return Hello{int(f.version), f.page, f.client, f.epoch, f.at}, nil
}

// DecodeOn reads the first line of a batch.
func DecodeOn(p []byte) (On, *Refusal) {
	if len(p) > helloBytes {
		return On{}, refuse(CodeProtocol, "%w: a first line of %d bytes", errMalformed, len(p))
	}
	f, err := decode(p)
	if err != nil {
		return On{}, &Refusal{CodeProtocol, err}
	}
	switch {
	case f.typ == "on" && f.page != "" && f.attachment != 0 && f.attachment < 1<<32:
		return On{Page: f.page, ID: uint32(f.attachment)}, nil
	case f.typ == "bye" && f.page != "" && f.client != "":
		return On{Page: f.page, Client: f.client, Bye: true}, nil
	case f.typ == "cookies" && f.page != "" && f.token != "":
		return On{Page: f.page, Token: f.token}, nil
	}
	return On{}, refuse(CodeProtocol, "%w: the first line does not say whose the frames are", errMalformed)
}

func number(v []byte, least uint64) (uint64, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n < least || n > maxID {
		return 0, fmt.Errorf("%.24q is no number from %d to 2^53", v, least)
	}
	return n, nil
}

// text is a string without escapes: what the protocol itself names needs none. A path
// that has some is unquoted by the library.
func text(v []byte, most int) (string, error) {
	if len(v) < 2 || v[0] != '"' {
		return "", errors.New("not a string")
	}
	s := string(v[1 : len(v)-1])
	if bytes.IndexByte(v, '\\') >= 0 {
		if err := json.Unmarshal(v, &s); err != nil {
			return "", err
		}
	}
	if len(s) > most {
		return "", fmt.Errorf("longer than %d bytes", most)
	}
	return s, nil
}

// members walks over an object that is known to be valid JSON.
func members(p []byte, out []field) ([]field, error) {
	i := space(p, 0)
	if p[i] != '{' {
		return nil, fmt.Errorf("%w: not an object", errMalformed)
	}
	i = space(p, i+1)
	for p[i] != '}' {
		if p[i] == ',' {
			i = space(p, i+1)
		}
		end := value(p, i)
		key, err := text(p[i:end], 64)
		if err != nil {
			return nil, fmt.Errorf("%w: a name: %w", errMalformed, err)
		}
		i = space(p, space(p, end)+1) // over the colon
		end = value(p, i)
		out = append(out, field{key, p[i:end]})
		i = space(p, end)
		if len(out) > 16 {
			return nil, fmt.Errorf("%w: more than 16 members", errMalformed)
		}
	}
	return out, nil
}

func space(p []byte, i int) int {
	for p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n' {
		i++
	}
	return i
}

// value gives the end of the value that begins at i.
func value(p []byte, i int) int {
	depth := 0
	for {
		switch p[i] {
		case '"':
			for i++; p[i] != '"'; i++ {
				if p[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
			continue
		default:
			for i < len(p) && p[i] != ',' && p[i] != '}' && p[i] != ']' && p[i] > ' ' {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}
