package adopt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The tests below read the inputs of the golden files by their own, simple means, and look
// for each statement and option in what was made of it: cited behind a key, in a note, or
// among what is needless.

// statement is one of nginx, with the blocks it stands in.
type statement struct {
	words string // "proxy_set_header Host $host"
	line  int
	in    []*statement
	opens bool
}

func (s *statement) name() string { name, _, _ := strings.Cut(s.words, " "); return name }

var nginxWord = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|#[^\n]*|[{};\n]|(?:\\.|\$\{\w+\}|[^\s{};"'])+`)

// statements takes nginx.conf apart.
func statements(text string) (all []*statement) {
	var words []string
	var in []*statement
	line, began := 1, 0
	for _, word := range nginxWord.FindAllString(text, -1) {
		switch {
		case word == "\n":
			line++
		case word == ";" || word == "{":
			s := &statement{words: strings.Join(words, " "), line: began, in: slices.Clone(in), opens: word == "{"}
			all, words = append(all, s), nil
			if s.opens {
				in = append(in, s)
			}
		case word == "}":
			in = in[:len(in)-1]
		case strings.HasPrefix(word, "#") && len(words) == 0:
		default:
			if len(words) == 0 {
				began = line
			}
			words = append(words, word)
		}
	}
	return all
}

// noted is the text of all notes, and of what is needless.
func noted(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "# not carried over: ") || strings.HasPrefix(line, "# needless here, of ") {
			b.WriteString(line)
		}
	}
	return strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(b.String())
}

// cited reports whether a line of nginx.conf stands anywhere in the output.
func cited(text string, line int) bool {
	return regexp.MustCompile(fmt.Sprintf(`nginx\.conf:(\d+, :)*%d\b`, line)).MatchString(text)
}

func TestNoStatementOfNginxIsDroppedInSilence(t *testing.T) {
	for _, name := range goldens {
		input, err := os.ReadFile(filepath.Join("testdata", name, "nginx.conf"))
		if err != nil {
			continue // it has none
		}
		output := read(t, filepath.Join("testdata", name, "guado.toml"))
		notes := noted(output)
		found := 0
		for _, s := range statements(string(input)) {
			words := strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(s.words)
			inNote := func(s *statement) bool { // with all that stands in it
				words := strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(s.words)
				whole := !slices.Contains([]string{"http", "server", "events"}, s.name())
				return s.opens && whole && (strings.Contains(notes, ": "+words+": ") || strings.Contains(notes, ": "+words+" { ") || strings.Contains(notes, " "+words+","))
			}
			switch {
			case s.opens && slices.Contains([]string{"http", "server", "events"}, s.name()):
			case cited(output, s.line), s.opens && cited(output, s.line+1): // the parser gives the first line inside of a block
			case slices.ContainsFunc(s.in, inNote), inNote(s):
			case strings.Contains(notes, " "+words), regexp.MustCompile(`[:,] ` + regexp.QuoteMeta(s.name()) + `(,|\n)`).MatchString(notes):
			default:
				t.Errorf("%s/nginx.conf:%d: %s: nothing tells of it", name, s.line, s.words)
			}
			found++
		}
		if found < 5 {
			t.Errorf("%s: only %d statements were looked for", name, found)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	iniSection = regexp.MustCompile(`^\[([^\]]+)\]`)
	iniKey     = regexp.MustCompile(`^([a-z_]+)\s*[=:]\s*(.*?)\s*(?: ;.*)?$`)
	longFlag   = regexp.MustCompile(` --?([a-z][a-z_-]*)`)
)

func TestNoKeyOfSupervisordIsDroppedInSilence(t *testing.T) {
	for _, name := range goldens {
		files, err := filepath.Glob(filepath.Join("testdata", name, "conf.d", "*.conf"))
		if err != nil {
			t.Fatal(err)
		}
		output := read(t, filepath.Join("testdata", name, "guado.toml"))
		notes := noted(output)
		for _, file := range append(files, filepath.Join("testdata", name, "supervisord.conf")) {
			input, err := os.ReadFile(file)
			if err != nil {
				continue // it has none
			}
			section, table := "", ""
			for line := range strings.Lines(string(input)) {
				if m := iniSection.FindStringSubmatch(line); m != nil {
					section, table = m[1], ""
					for _, each := range strings.Split(output, "\n\n") {
						if strings.Contains(each, "["+section+"]\n") && strings.Contains(each, "\nname = ") {
							table = each
						}
					}
					isProgram := strings.HasPrefix(section, "program:")
					if isProgram == (table == "") || !isProgram && section != "include" && section != "supervisord" && !strings.Contains(notes, "["+section+"]") {
						t.Errorf("%s [%s]: nothing tells of it", file, section)
					}
					continue
				}
				m := iniKey.FindStringSubmatch(strings.TrimRight(line, "\n"))
				if m == nil || table == "" && section != "supervisord" {
					continue
				}
				key := regexp.MustCompile(`#.*\b` + m[1] + `\b`)
				switch {
				case m[1] == "command":
					supervisedFlags(t, file, m[2], table, notes)
				case m[1] == "directory" && strings.Contains(table, m[2]), m[1] == "directory" && m[2] == place:
				case key.MatchString(table), strings.Contains(notes, ": "+m[1]+","), strings.Contains(notes, ", "+m[1]), strings.Contains(notes, ": "+m[1]+" = "), strings.Contains(notes, "[supervisord] "+m[1]):
				case section == "supervisord" && m[1] == "environment" && strings.Contains(output, "env = "):
				default:
					t.Errorf("%s [%s] %s: nothing tells of it", file, section, m[1])
				}
			}
		}
	}
}

// supervisedFlags looks for the options of a Python server's command.
func supervisedFlags(t *testing.T, file, command, table, notes string) {
	t.Helper()
	if strings.Contains(table, "[[program]]\n") {
		return // it has the whole command
	}
	short := map[string]string{"k": "worker_class", "w": "workers", "c": "", "m": "", "b": ""}
	for _, m := range longFlag.FindAllStringSubmatch(command, -1) {
		name := m[1]
		if long, ok := short[name]; ok {
			name = long
		}
		names := []string{name, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "_") + "_app"}
		told := func(name string) bool { return strings.Contains(table+notes, name) }
		if !slices.ContainsFunc(names, told) && !slices.Contains([]string{"bind", "host", "port", ""}, name) {
			t.Errorf("%s: option %s of %s: nothing tells of it", file, m[1], command)
		}
	}
}

func TestNoSettingOfGunicornIsDroppedInSilence(t *testing.T) {
	setting := regexp.MustCompile(`(?m)^(?:def )?([a-z_]+)(?: = |\()`)
	// The address is where a mount leads; the module is the target; cores is a name of the file's own.
	elsewhere := []string{"bind", "wsgi_app", "cores"}
	for _, name := range goldens {
		output := read(t, filepath.Join("testdata", name, "guado.toml"))
		for _, file := range []string{"gunicorn.conf.py", "gunicorn.py"} {
			input, err := os.ReadFile(filepath.Join("testdata", name, file))
			if err != nil || strings.Contains(output, ":app as an [[app]]: ") && !strings.Contains(output, "[[app]]\n") {
				continue // it has none, or goes on as it is
			}
			for _, m := range setting.FindAllStringSubmatch(string(input), -1) {
				if !slices.Contains(elsewhere, m[1]) && !regexp.MustCompile(`#.*\b`+m[1]+`\b`).MatchString(output) {
					t.Errorf("%s/%s: %s: nothing tells of it", name, file, m[1])
				}
			}
		}
	}
}
