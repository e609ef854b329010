package adopt

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/config"
)

// draft is the configuration that is being written: tables of keys, each with where it
// comes from, and beside them what could not be carried over.
type draft struct {
	dir      string
	server   map[string]*table // by their name behind "server", "" for [server] itself
	apps     []*table
	mounts   []*table
	programs []*table
	missed   []string
	loose    []string // of missed: what belongs to no table

	needless   []string // "nginx: sendfile": what nothing is lost with
	listen     []string // of server.listen
	listenFrom string
	private    bool // it has variables of an environment, which may be secrets
	gunicorns  []*gunicorn
	runsAs     string                 // whom [supervisord] runs as
	supervised map[string]*supervised // app → the program that it was

	serves  map[string]string // address ("127.0.0.1:8888", "unix:/run/x") → app that answered there
	fronted bool              // nginx said where to listen
	tls     bool
}

// table is a table of the file.
type table struct {
	header string // "[server]", "[[mount]]"
	about  string // comment above it
	keys   []key
	missed []string
	// needless is what of the draft's list this table has added.
	needless []string
}

// key is one line of a table.
type key struct{ name, value, from string }

func newDraft(o Options) *draft {
	d := &draft{dir: o.Dir, server: map[string]*table{}, serves: map[string]string{}, supervised: map[string]*supervised{}}
	if d.dir == "" {
		d.dir, _ = os.Getwd() // without one relative paths stay relative
	}
	return d
}

func newTable(header, about string) *table { return &table{header: header, about: about} }

// set adds a key, or replaces it; what says the same once more is cited beside the first.
// value is a string, number, bool, []string, map[string]string, time.Duration or
// config.Size.
func (t *table) set(name string, value any, from string) {
	k := key{name, toml(value), from}
	for i := range t.keys {
		if t.keys[i].name != name {
			continue
		}
		if known := &t.keys[i]; known.value != k.value || known.from == "" {
			*known = k
		} else if file, _, ok := strings.Cut(from, ":"); !slices.Contains(strings.Split(known.from, ", "), strings.TrimPrefix(from, file)) && !strings.HasPrefix(known.from, from) {
			if ok && strings.HasPrefix(known.from, file+":") {
				from = strings.TrimPrefix(from, file)
			}
			known.from += ", " + from
		}
		return
	}
	t.keys = append(t.keys, k)
}

// get gives the value of a key as it is spelt; "" when it was not set.
func (t *table) get(name string) string {
	if t == nil {
		return ""
	}
	for _, k := range t.keys {
		if k.name == name {
			return k.value
		}
	}
	return ""
}

// at gives a table below [server], "" for itself.
func (d *draft) at(name string) *table {
	if d.server[name] == nil {
		header := "[server]"
		if name != "" {
			header = "[server." + name + "]"
		}
		d.server[name] = newTable(header, "")
	}
	return d.server[name]
}

// miss notes what could not be carried over, beside the table it would belong to.
func (d *draft) miss(t *table, from, what, why string, args ...any) {
	text := fmt.Sprintf("%s: %s: %s", from, what, fmt.Sprintf(why, args...))
	if slices.Contains(d.missed, text) {
		return // inherited by several
	}
	d.missed = append(d.missed, text)
	if t == nil {
		d.loose = append(d.loose, text)
		return
	}
	t.missed = append(t.missed, text)
}

// needsNot names what nothing is lost with; t is the table beside which it was read.
func (d *draft) needsNot(t *table, of, what string) {
	text := of + ": " + what
	if slices.Contains(d.needless, text) {
		return
	}
	d.needless = append(d.needless, text)
	if t != nil {
		t.needless = append(t.needless, text)
	}
}

// toml spells a value.
func toml(value any) string {
	switch v := value.(type) {
	case string:
		return quote(v)
	case []string:
		words := make([]string, len(v))
		for i, w := range v {
			words[i] = quote(w)
		}
		return "[" + strings.Join(words, ", ") + "]"
	case []int:
		words := make([]string, len(v))
		for i, n := range v {
			words[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(words, ", ") + "]"
	case map[string]string:
		words := make([]string, 0, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			words = append(words, quoteKey(name)+" = "+quote(v[name]))
		}
		return "{ " + strings.Join(words, ", ") + " }"
	case time.Duration:
		return quote(config.Duration(v).String())
	case config.Size:
		return quote(v.String())
	}
	return fmt.Sprint(value)
}

// quote spells a string as TOML's basic strings do; Go's escapes differ.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteKey(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" && s != "" {
		return s
	}
	return quote(s)
}

// finish completes what needs all sources.
func (d *draft) finish() {
	d.gunicornLog()
	if len(d.listen) > 0 {
		t := d.at("")
		t.keys = append([]key{{"listen", toml(d.listen), d.listenFrom}}, t.keys...)
	}
	if len(d.mounts) == 0 && len(d.apps) > 0 {
		m := newTable("[[mount]]", "")
		m.set("path", "/", "")
		m.set("app", appName(d.apps[0]), "")
		d.mounts = append(d.mounts, m)
	}
	d.mountAll()
	if len(d.mounts) == 0 && len(d.programs) > 0 {
		d.miss(nil, "guado.toml", "no mount", "nothing is served yet; add an [[app]] or a [[mount]]")
	}
}

// mountAll leaves no app unmounted: what nginx did not lead to gets a path of its own.
func (d *draft) mountAll() {
	for _, a := range d.apps {
		name := appName(a)
		mounted := slices.ContainsFunc(d.mounts, func(m *table) bool { return m.get("app") == quote(name) })
		if mounted {
			continue
		}
		m := newTable("[[mount]]", "No location led to it: choose its path.")
		m.set("path", "/"+name, "")
		m.set("app", name, "")
		d.mounts = append(d.mounts, m)
	}
}

func appName(t *table) string { return strings.Trim(t.get("name"), `"`) }

// serverTables is the order in which tables below [server] are written.
var serverTables = []string{"", "tls", "limits", "timeouts"}

// render writes the file.
func (d *draft) render() string {
	var b strings.Builder
	b.WriteString("# Written by guado adopt. Read it once, then try it: guado check --load, guado serve.\n")
	switch n := len(d.missed); n {
	case 0:
		b.WriteString("# Everything was carried over.\n")
	case 1:
		b.WriteString("# One thing was not carried over: look for \"not carried over\".\n")
	default:
		fmt.Fprintf(&b, "# %d things were not carried over: look for \"not carried over\".\n", n)
	}
	for _, text := range d.loose {
		b.WriteString(comment("not carried over: " + text))
	}
	d.renderNeedless(&b)
	for _, name := range serverTables {
		if t := d.server[name]; t != nil {
			t.render(&b)
		}
	}
	for _, list := range [][]*table{d.apps, d.mounts, d.programs} {
		for _, t := range list {
			t.render(&b)
		}
	}
	return b.String()
}

// renderNeedless names, source by source, what has no place here and is not missed.
func (d *draft) renderNeedless(b *strings.Builder) {
	for _, of := range []string{"nginx", "gunicorn", "uvicorn", "daphne", "hypercorn", "supervisord"} {
		var names []string
		for _, text := range d.needless {
			if name, ok := strings.CutPrefix(text, of+": "); ok {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			b.WriteString(comment("needless here, of " + of + ": " + strings.Join(names, ", ")))
		}
	}
}

func (t *table) render(b *strings.Builder) {
	b.WriteString("\n")
	if t.about != "" {
		b.WriteString(comment(t.about))
	}
	for _, text := range t.missed {
		b.WriteString(comment("not carried over: " + text))
	}
	b.WriteString(t.header + "\n")
	for _, k := range t.keys {
		line := k.name + " = " + k.value
		if k.from != "" {
			line = fmt.Sprintf("%-44s # %s", line, k.from)
		}
		b.WriteString(line + "\n")
	}
}

// comment makes text a comment; a newline in it must not end that.
func comment(text string) string {
	return "# " + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text) + "\n"
}
