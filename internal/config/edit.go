package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ErrEdit is told of a file in which a key cannot be changed by a program.
var ErrEdit = errors.New("the file cannot be changed by a program")

var (
	header     = regexp.MustCompile(`^\s*\[`)
	ofServer   = regexp.MustCompile(`^\s*\[\s*server\s*\]\s*(#.*)?$`)
	phaseLine  = regexp.MustCompile(`^(\s*phase\s*=\s*)([0-9]+)(.*)$`)
	dottedLine = regexp.MustCompile(`^(\s*server\s*\.\s*phase\s*=\s*)([0-9]+)(.*)$`)
)

// SetPhase gives the text of a file in which server.phase is another one. Nothing else
// changes: comments, order and line ends stay.
func SetPhase(text string, phase int) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	number, in, at, tables := strconv.Itoa(phase), false, -1, false
	for i, line := range lines {
		body := strings.TrimRight(line, "\r\n")
		end := line[len(body):]
		form := phaseLine
		switch {
		case ofServer.MatchString(body):
			in, at, tables = true, i, true
			continue
		case header.MatchString(body):
			in, tables = false, true
			continue
		case !tables:
			form = dottedLine
		case !in:
			continue
		}
		if m := form.FindStringSubmatch(body); m != nil {
			lines[i] = m[1] + number + m[3] + end
			return checked(text, strings.Join(lines, ""), phase)
		}
	}
	end := "\n"
	if strings.Contains(text, "\r\n") {
		end = "\r\n"
	}
	switch {
	case at >= 0:
		if !strings.HasSuffix(lines[at], "\n") {
			lines[at] += end
		}
		lines[at] += "phase = " + number + end
	default:
		if text != "" && !strings.HasSuffix(text, "\n") {
			lines = append(lines, end)
		}
		lines = append(lines, end+"[server]"+end+"phase = "+number+end)
	}
	return checked(text, strings.Join(lines, ""), phase)
}

// checked makes sure that the change is the one that was meant, and the only one: what looks
// like the key's line may stand in a text of several lines.
func checked(before, after string, phase int) (string, error) {
	was, is := map[string]any{}, map[string]any{}
	if err := errors.Join(toml.Unmarshal([]byte(before), &was), toml.Unmarshal([]byte(after), &is)); err != nil {
		return "", fmt.Errorf("%w: %w", ErrEdit, err)
	}
	server, isTable := was["server"].(map[string]any)
	if !isTable {
		server = map[string]any{}
	}
	server["phase"], was["server"] = int64(phase), server
	if !reflect.DeepEqual(was, is) {
		return "", fmt.Errorf("%w: write phase = %d under [server] yourself", ErrEdit, phase)
	}
	return after, nil
}
