package adopt

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mattn/go-shellwords"
	"gopkg.in/ini.v1"
)

// supervised is a [program:x] as it was written.
type supervised struct {
	name, kind string // kind: "program", "fcgi-program", "eventlistener"
	keys       map[string]string
	from       string
	here       string // folder of its file
	words      []string
}

// place is where it was written: "shop.conf [program:web]".
func (p *supervised) place() string { return p.from + " [" + p.kind + ":" + p.name + "]" }

// get gives a value with supervisord's expansions made.
func (p *supervised) get(name string) string { return p.expand(p.keys[name]) }

var expansion = regexp.MustCompile(`%\(([A-Za-z0-9_]+)\)(0?[0-9]*)[sd]|%%`)

// expand replaces %(here)s and its like. The number of an instance becomes Guado's own.
func (p *supervised) expand(text string) string {
	return expansion.ReplaceAllStringFunc(text, func(word string) string {
		m := expansion.FindStringSubmatch(word)
		switch name := m[1]; {
		case word == "%%":
			return "%"
		case name == "here":
			return p.here
		case name == "program_name", name == "group_name":
			return p.name
		case name == "process_num":
			return "{number}"
		case strings.HasPrefix(name, "ENV_"):
			return os.Getenv(strings.TrimPrefix(name, "ENV_"))
		}
		return word
	})
}

// readSupervisord reads a file and those that it includes.
func (d *draft) readSupervisord(path string) ([]*supervised, error) {
	path = d.absolute(path)
	file, err := loadINI(path)
	if err != nil {
		return nil, err
	}
	env := file.Section("supervisord").Key("environment").Value()
	programs := d.sections(file, path, env)
	include := file.Section("include").Key("files").Value()
	for _, pattern := range strings.Fields(include) {
		pattern = (&supervised{here: filepath.Dir(path)}).expand(pattern)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(path), pattern)
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("[include] files = %s: %w", pattern, err)
		}
		for _, each := range found {
			more, err := loadINI(each)
			if err != nil {
				return nil, err
			}
			programs = append(programs, d.sections(more, each, env)...)
		}
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("%s has no [program:x], and includes no file that has one", path)
	}
	for _, p := range programs {
		if p.words, err = shellwords.Parse(p.get("command")); err != nil || len(p.words) == 0 {
			return nil, fmt.Errorf("%s: [%s:%s] command = %q cannot be taken apart", p.from, p.kind, p.name, p.keys["command"])
		}
	}
	return programs, nil
}

func loadINI(path string) (*ini.File, error) {
	return ini.LoadSources(ini.LoadOptions{
		SpaceBeforeInlineComment: true, AllowPythonMultilineValues: true, PreserveSurroundedQuote: true,
		KeyValueDelimiters: "=:", Insensitive: false,
	}, path)
}

// elsewhere are sections that have their part in Guado by themselves.
var elsewhere = map[string]string{
	"unix_http_server": "guado program start|stop|restart speaks to the admin socket", "supervisorctl": "", "rpcinterface": "",
	"inet_http_server": "the admin interface is a Unix socket; guado program start|stop|restart speaks to it", "include": "", "DEFAULT": "",
}

// sections sorts the sections of a file: programs are given back, what has no
// counterpart is noted.
func (d *draft) sections(file *ini.File, path, env string) []*supervised {
	var programs []*supervised
	from := filepath.Base(path)
	for _, s := range file.Sections() {
		kind, name, _ := strings.Cut(s.Name(), ":")
		switch kind {
		case "program", "fcgi-program":
			p := &supervised{name: name, kind: kind, keys: map[string]string{}, from: from, here: filepath.Dir(path)}
			for _, k := range s.Keys() {
				p.keys[k.Name()] = k.Value()
			}
			if env != "" {
				p.keys["environment"] = strings.TrimSuffix(env+","+p.keys["environment"], ",")
			}
			programs = append(programs, p)
		case "eventlistener":
			d.miss(nil, from, "["+s.Name()+"]", "there are no event listeners; the log and guado status tell of programs")
		case "group":
			d.miss(nil, from, "["+s.Name()+"]", "programs are not grouped; name them one by one")
		case "supervisord":
			d.daemon(s, from)
		default:
			if why, known := elsewhere[kind]; !known {
				d.miss(nil, from, "["+s.Name()+"]", "it is not known what this is for")
			} else if why != "" && kind == "inet_http_server" {
				d.miss(nil, from, "["+s.Name()+"]", "%s", why)
			} else if kind != "DEFAULT" && kind != "include" {
				d.needsNot(nil, "supervisord", "["+s.Name()+"]")
			}
		}
	}
	return programs
}

// daemon notes what [supervisord] said of the process itself.
func (d *draft) daemon(s *ini.Section, from string) {
	reasons := map[string]string{
		"user": "the host itself is started as it: User= of a systemd unit", "umask": "UMask= of a systemd unit",
		"minfds": "LimitNOFILE= of a systemd unit", "minprocs": "LimitNPROC= of a systemd unit", "directory": "the folder of guado.toml is that",
	}
	for _, key := range s.Keys() {
		switch name, why := key.Name(), reasons[key.Name()]; {
		case name == "environment":
			// It is part of that of each program.
		case name == "user" && key.Value() == "root":
			d.needsNot(nil, "supervisord", "user = root of [supervisord]") // as which the host must start, too, where programs have a user
		case why != "":
			d.miss(nil, from, "[supervisord] "+name+" = "+key.Value(), "%s", why)
			if name == "user" {
				d.runsAs = key.Value()
			}
		case slices.Contains([]string{"logfile", "logfile_maxbytes", "logfile_backups", "loglevel", "pidfile", "nodaemon", "silent", "childlogdir",
			"nocleanup", "identifier", "strip_ansi"}, name):
			d.needsNot(nil, "supervisord", name)
		default:
			d.miss(nil, from, "[supervisord] "+name+" = "+key.Value(), "there is nothing like it")
		}
	}
}
