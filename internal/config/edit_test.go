package config

import (
	"errors"
	"testing"
)

func TestThePhaseIsTheOnlyThingThatChangesInAFile(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"a line with a comment": {
			"# our site\n[server]\nlisten = [\":80\"]  # all\n  phase=3 # since May\n\n[[app]]\nname = \"x\"\n",
			"# our site\n[server]\nlisten = [\":80\"]  # all\n  phase=4 # since May\n\n[[app]]\nname = \"x\"\n",
		},
		"lines of Windows":      {"[server]\r\nphase = 0\r\n", "[server]\r\nphase = 4\r\n"},
		"no such line":          {"[server] # here\nhttp2 = true\n[[app]]\nname = \"x\"", "[server] # here\nphase = 4\nhttp2 = true\n[[app]]\nname = \"x\""},
		"no such table":         {"[[app]]\nname = \"x\"", "[[app]]\nname = \"x\"\n\n[server]\nphase = 4\n"},
		"a table below":         {"[server.tls]\ncert = \"c\"\n[server]\nphase = 5", "[server.tls]\ncert = \"c\"\n[server]\nphase = 4"},
		"a dotted key":          {"server.phase = 5\n[[app]]\nphase = 1\n", "server.phase = 4\n[[app]]\nphase = 1\n"},
		"a phase of others":     {"[[release]]\nphase = 6\n[server]\nphase = 3\n", "[[release]]\nphase = 6\n[server]\nphase = 4\n"},
		"nothing":               {"", "\n[server]\nphase = 4\n"},
		"the phase that it has": {"[server]\nphase = 4\n", "[server]\nphase = 4\n"},
	} {
		if got, err := SetPhase(c.before, 4); err != nil || got != c.after {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	for name, text := range map[string]string{
		"a table in one line":  "server = {phase = 3}\n",
		"a text that looks so": "[[app]]\nname = \"\"\"\n[server]\nphase = 3\n\"\"\"\n[server]\nphase = 3\n",
		"no TOML":              "[server\n",
	} {
		if got, err := SetPhase(text, 4); !errors.Is(err, ErrEdit) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}
